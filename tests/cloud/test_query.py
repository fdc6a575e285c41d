"""The query language of fleet indexing."""

import pytest

from monodon.cloud.iot.query import Fields, QueryError, read_query

SEAL: Fields = {
    "thingName": ("seal-7",),
    "thingTypeName": ("drone",),
    "thingGroupNames": ("arctic", "canary"),
    "attributes.model": ("seal 2",),
    "attributes.serial": ("1042",),
    "attributes.path": ("a:b/c",),
    "shadow.reported.battery": (55.5,),
    "shadow.reported.tags": ("x", "y"),
    "connectivity.connected": (True,),
}


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("*", True),
        ("thingName:seal-7", True),
        ("thingName:seal-8", False),
        ("thingName:seal*", True),
        ("thingName:s?al-?", True),
        ("thingName:*7*", True),
        ("thingName:seal", False),
        ('attributes.model:"seal 2"', True),
        ('attributes.model:"seal*"', False),
        (r"attributes.model:seal\ 2", True),
        (r"attributes.model:seal\*", False),
        ("attributes.path:a:b/c", True),
        ("attributes.colour:*", False),
        ("attributes.model:*", True),
        ("attributes.serial:[1000 TO 1042]", True),
        ("attributes.serial:{1000 TO 1042}", False),
        ("attributes.serial:[1000 TO 1042}", False),
        ("attributes.serial:[* TO 99]", False),
        ("attributes.serial:>1041", True),
        ("attributes.serial:>=1042", True),
        ("attributes.serial:<1042", False),
        ("attributes.serial:<=1042", True),
        ("shadow.reported.battery:[20 TO 80]", True),
        ("shadow.reported.battery:<20", False),
        ("shadow.reported.tags:y", True),
        ("connectivity.connected:true", True),
        ("connectivity.connected:false", False),
        ("thingGroupNames:canary AND thingTypeName:drone", True),
        ("thingGroupNames:canary thingTypeName:buoy", False),
        ("thingTypeName:buoy OR thingGroupNames:arctic", True),
        ("thingTypeName:buoy OR thingGroupNames:arctic AND thingName:x", False),
        ("(thingTypeName:buoy OR thingGroupNames:arctic) AND NOT thingName:x", True),
        ("NOT thingGroupNames:canary", False),
        ("-thingGroupNames:canary", False),
        ("thingTypeName:drone AND -thingName:seal-8", True),
        ("NOT NOT thingName:seal-7", True),
        ("canary", True),
        ('"seal 2"', True),
        ("walrus", False),
        ("attributes.absent:>1", False),
    ],
)
def test_a_query_means_what_aws_documents(query: str, fits: bool) -> None:
    assert read_query(query)(SEAL) is fits


@pytest.mark.parametrize(
    "query",
    [
        "",
        "  ",
        "AND",
        "thingName:",
        "thingName:a AND",
        "(thingName:a",
        "thingName:a)",
        "colour:red",
        "attributes.:x",
        "thingName:[1 5]",
        'thingName:"a',
        " ".join(["thingName:a"] * 13),
        "(" * 200 + "thingName:a" + ")" * 200,
    ],
)
def test_what_is_no_query_is_refused(query: str) -> None:
    with pytest.raises(QueryError):
        read_query(query)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    query = read_query("thingName:" + "*a" * 300 + "b")
    assert query({"thingName": ("a" * 800,)}) is False
