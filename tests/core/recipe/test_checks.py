"""Every rule finds its own example, and nothing in a clean recipe."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.names import ComponentName
from monodon.core.recipe.checks import DEFAULT_TARGETS, RULES, Target, check, explain, fixed
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.problems import Severity
from monodon.core.recipe.reading import parse_recipe
from monodon.core.semver import Version

EVERY = frozenset(Target)
HEAD = """RecipeFormatVersion: '2020-01-25'
ComponentName: com.example.A
ComponentVersion: 1.0.0
ComponentDescription: An example.
ComponentPublisher: Us
"""
CLEAN = (
    HEAD
    + """ComponentConfiguration:
  DefaultConfiguration:
    rate: 1
    accessControl:
      aws.greengrass.ipc.pubsub:
        com.example.A:pubsub:1:
          policyDescription: Allows publishing.
          operations: ['aws.greengrass#PublishToTopic']
          resources: ['a/b']
ComponentDependencies:
  com.example.B:
    VersionRequirement: '>=1.0.0 <2.0.0'
Manifests:
  - Platform: {os: linux, architecture: aarch64, runtime: '*'}
    Lifecycle:
      Setenv: {RATE: '{configuration:/rate}'}
      Install:
        Script: '{artifacts:path}/install.sh'
        Timeout: 60
      Run: exec python3 -u {artifacts:decompressedPath}/app/main.py --root {kernel:rootPath}
    Artifacts:
      - Uri: s3://bucket/install.sh
        Permission: {Execute: OWNER}
      - Uri: s3://bucket/app.zip
        Unarchive: ZIP
"""
)


def configuration(text: str) -> str:
    return f"ComponentConfiguration: {{DefaultConfiguration: {{{text}}}}}\nManifests: [{{}}]\n"


def policy(text: str, service: str = "aws.greengrass.ipc.pubsub") -> str:
    return configuration(f"accessControl: {{{service}: {{p: {{{text}}}}}}}")


def platform(text: str) -> str:
    return f"Manifests: [{{Platform: {{{text}}}}}]\n"


def steps(text: str, artifacts: str = "") -> str:
    return f"Manifests:\n- Platform: {{os: linux}}\n  Lifecycle:\n    {text}\n{artifacts}"


def artifacts(*entries: str) -> str:
    return "  Artifacts:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries)


def needs(text: str) -> str:
    return f"ComponentDependencies: {{{text}}}\nManifests: [{{}}]\n"


PUBLISH = "operations: ['aws.greengrass#PublishToTopic']"
EXAMPLES: Mapping[str, str] = {
    "R201": f"Manifests: [{{}}]\n# {'x' * 17_000}\n",
    "R202": f"Manifests: [{{}}]\n# {'x' * 15_950}\n",
    "R203": "Manifests: []\n",
    "R204": "Manifests: [{}]\nComponentName: aws.greengrass.Mine\n",
    "R205": "Manifests: [{}]\nComponentType: aws.greengrass.generic\n",
    "R206": "Manifests: [{}]\nColour: red\n",
    "R207": "Manifests: [{}]\nComponentSource: arn:aws:s3:::x\n",
    "R208": "Manifests: [{}]\nComponentVersion: 1.0.0-1\n",
    "R209": "Manifests: [{}]\nComponentPublisher: ~\n",
    "R210": steps("Run:"),
    "R211": steps("Setenv: {A: }"),
    "R212": steps('Run: "echo a\\r\\necho b"'),
    "R301": platform("architecture: arm64"),
    "R302": platform("OS: linux"),
    "R303": platform("os: solaris"),
    "R304": "Manifests: [{}, {Platform: {os: linux}}]\n",
    "R305": "Manifests: [{Platform: {os: linux}}, {Platform: {os: linux}}]\n",
    "R306": platform("os: '/[/'"),
    "R307": platform("os: 'linux|darwin'"),
    "R308": platform("key: _x"),
    "R309": platform("board: jetson"),
    "R310": platform("runtime: aws_nucleus_lite"),
    "R311": platform("architecture: amd64, architecture.detail: armv7l"),
    "R401": steps("Run: exec a\n    Startup: b"),
    "R402": steps("Rum: exec a"),
    "R403": steps("Run: {Timeout: 5}"),
    "R404": steps("Run: {Script: exec a, Timeuot: 5}"),
    "R405": steps("Run: {Script: exec a, Timeout: 2m}"),
    "R406": steps("Run: {Script: exec a, Timeout: '010'}"),
    "R407": steps("Run: {Script: exec a, Timeout: 1.5}"),
    "R408": steps("Run: {Script: exec a, Skipif: file /x}"),
    "R409": steps("Run: {Script: exec a, RequiresPrivilege: maybe}"),
    "R410": steps("Startup: exec python3 -u main.py"),
    "R411": steps("Run: exec python3 -u main.py"),
    "R412": "Manifests: [{Selections: [linx]}]\nLifecycle: {linux: {Run: exec a}}\n",
    "R413": "Manifests: [{Selections: [linux], Lifecycle: {Run: exec a}}]\nLifecycle: {linux: {Run: exec b}}\n",
    "R414": "Manifests: [{Lifecycle: {Run: exec a}}]\nLifecycle: {all: {Run: exec b}}\n",
    "R415": steps("Run: ' '"),
    "R416": steps("Run: python3 -u /app/main.py"),
    "R417": steps("Run: exec python3 /app/main.py"),
    "R418": steps("Install: pip3 install numpy"),
    "R419": steps("Run: ./server &"),
    "R420": steps("Run: source env && exec a"),
    "R421": steps("Install: sudo systemctl stop x"),
    "R422": steps("Shutdown: sleep 20"),
    "R501": steps("Setenv: {A: {configuration:/x}}"),
    "R502": steps("Run: exec a {configuration:x}"),
    "R503": steps("Run: exec a {configuration:/x}"),
    "R504": steps("Run: exec a {com.example.C:artifacts:path}"),
    "R505": steps("Run: exec a {artifact:path}"),
    "R506": steps("'{work:path}': x\n    Run: exec a"),
    "R507": configuration("a: '{configuration:/b}'"),
    "R508": configuration("a: '{iot:thingName}'"),
    "R509": configuration("a: {b: 1}").partition("Manifests")[0] + steps("Run: exec a {configuration:/a}"),
    "R510": "ComponentDependencies: {B: {VersionRequirement: '*'}}\n" + steps("Run: exec a {B:configuration:/missing}"),
    "R511": steps("Run: exec a {artifacts:decompressedPath}/x"),
    "R512": steps("Run: exec a {artifacts:decompressedPath}/y/b", artifacts("Uri: s3://b/x.zip, Unarchive: ZIP")),
    "R513": steps("Run: exec a {artifacts:path}/y", artifacts("Uri: s3://b/x")),
    "R601": needs("B: {VersionRequirement: '>=2.0'}"),
    "R602": needs("B: {VersionRequirement: ^7.0.0}"),
    "R603": needs("com.example.A: {VersionRequirement: '*'}"),
    "R604": needs("B: {VersionRequirement: 1.0.0 2.0.0}"),
    "R605": needs("B: {VersionRequirement: '~>1.2.3'}"),
    "R606": steps("Run: exec aws s3 cp s3://b/x ."),
    "R607": "ComponentDependencies: {B: {VersionRequirement: '*', DependencyType: SOFT}}\n"
    + steps("Run: exec a {B:work:path}"),
    "R608": needs("aws.greengrass.Cli: {VersionRequirement: 2.12.0}"),
    "R701": steps("Run: exec a", artifacts("Uri: s3://b/x", "Uri: s3://c/x")),
    "R702": steps("Run: exec a", artifacts("Uri: s3://b/x.zip, Unarchive: ZIP", "Uri: s3://b/x.jar, Unarchive: ZIP")),
    "R703": steps("Run: exec a", artifacts("Uri: 'https://b/x'")),
    "R704": steps("Run: exec a", artifacts("Uri: 'docker:redis:7'")),
    "R705": steps("Run: exec a", artifacts("Uri: 'docker:1.dkr.ecr.eu-west-1.amazonaws.com/x:1'")),
    "R706": steps("Run: exec a", artifacts("Uri: s3://b/x.tar.gz, Unarchive: ZIP")),
    "R707": steps("Run: exec a", artifacts("Uri: s3://b/x, Digest: abc")),
    "R708": "ComponentDependencies: {B: {VersionRequirement: '*'}}\n" + steps("Run: exec a {B:artifacts:path}"),
    "R709": steps("Run: exec a x/y", artifacts("Uri: s3://b/x.zip")).replace("x/y", "{artifacts:path}/x/y"),
    "R710": steps("Run: exec {artifacts:path}/x", artifacts("Uri: s3://b/x")),
    "R711": "ComponentDependencies: {C: {VersionRequirement: '*'}}\n" + steps("Run: exec a {C:artifacts:path}"),
    "R801": configuration("accessControl: [a]"),
    "R802": policy(f"{PUBLISH}, resources: [a]", "aws.greengrass.pubsub"),
    "R803": policy("operations: [PublishToTopic], resources: [a]"),
    "R804": policy(PUBLISH),
    "R805": policy(f"{PUBLISH}, resources: ['a?b']"),
    "R806": policy(f"{PUBLISH}, resources: ['a${{x}}b']"),
    "R807": policy(f"{PUBLISH}, resources: ['a/+/b']"),
    "R808": policy(f"{PUBLISH}, resources: ['a/{{iot:thingName}}']"),
    "R809": policy(f"{PUBLISH}, resources: ['*']"),
    "R810": configuration(f"accessControl: {{aws.greengrass.ipc.pubsub: {{'B:1': {{{PUBLISH}, resources: [a]}}}}}}"),
    "R811": policy(f"{PUBLISH}, resources: [a], resource: [b]"),
    "R901": steps("Setenv: {PYTHONPATH: /x}"),
    "R902": steps("Setenv: {SVCUID: x}"),
    "R903": steps("Setenv: {a-b: x}"),
    "R904": configuration("password: hunter2"),
    "R905": configuration("rate: 1, Rate: 2"),
    "R906": configuration("mode: 0755"),
    "R907": configuration("country: no"),
    "R908": configuration("python: 3.10"),
    "L101": "manifests: [{Platform: {runtime: '*'}}]\n",
    "L102": platform("os: linux"),
    "L103": steps("Shutdown: x"),
    "L104": steps("Run: {Script: exec a, Skipif: exists /x}"),
    "L105": platform("os: /linux/"),
    "L106": "ComponentType: aws.greengrass.plugin\nManifests: [{}]\n",
    "L107": platform("os: windows"),
    "L108": "ComponentDependencies: {B: {VersionRequirement: '*'}}\n" + steps("Run: exec a {B:artifacts:path}"),
    "L109": steps("Run: {Script: exec a, Timeout: '{configuration:/t}'}"),
    "L110": needs("B: {VersionRequirement: ^1.0.0}"),
    "L111": steps("Run: {Script: exec a, RequiresPrivilege: 'y'}"),
    "L112": "Manifests: [{Selections: [linux]}]\nLifecycle: {linux: {Run: exec a}}\n",
    "L113": needs("aws.greengrass.Nucleus: {VersionRequirement: '>=2.0.0'}"),
    "L114": steps("Bootstrap: x"),
    "L115": "Manifests: [{Lifecycle: {}}]\n",
}
NEIGHBOUR = parse_recipe(
    HEAD.replace("com.example.A", "B")
    + configuration("accessControl: {aws.greengrass.ipc.pubsub: {'B:1': {}}}").partition("Manifests")[0]
    + steps("", artifacts("Uri: s3://b/x")).replace("  Lifecycle:\n    \n", ""),
    file="recipe.yaml",
)
WITH_STEPS = parse_recipe(
    HEAD.replace("com.example.A", "C") + steps("Run: exec c", artifacts("Uri: s3://b/x")), file="recipe.yaml"
)
NEIGHBOURS: Mapping[ComponentName, tuple[Recipe, ...]] = {
    ComponentName("B"): (NEIGHBOUR,),
    ComponentName("C"): (WITH_STEPS,),
}
CODE = {"main.py": "await component.ready()"}


def found(text: str, *, targets: frozenset[Target] = EVERY) -> dict[str, str]:
    problems = check(text, file="recipe.yaml", targets=targets, neighbours=NEIGHBOURS, code=CODE)
    return {problem.code: problem.message for problem in problems}


def with_head(text: str) -> str:
    """Put the fragment behind the head, whose keys it may give anew."""
    names = re.findall(r"^(Component\w+):", text, re.MULTILINE)
    return "".join(line for line in HEAD.splitlines(keepends=True) if line.partition(":")[0] not in names) + text


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_finds_its_example_and_not_the_clean_recipe(rule: object) -> None:
    code = rule.code  # type: ignore[attr-defined]
    assert code in found(with_head(EXAMPLES[code])), f"{code} is not found in:\n{with_head(EXAMPLES[code])}"
    clean = check(CLEAN, file="recipe.yaml", targets=EVERY)
    assert code not in {problem.code for problem in clean}


def test_the_clean_recipe_is_clean() -> None:
    assert check(CLEAN, file="recipe.yaml") == ()


def test_rules_are_many_and_each_explains_itself() -> None:
    codes = [rule.code for rule in RULES]
    assert len(codes) == len(set(codes)) >= 45
    assert set(EXAMPLES) == set(codes)
    for rule in RULES:
        assert rule.title
        assert explain(rule.code.lower()) == rule.page
    assert explain("R999") is None


@pytest.mark.parametrize("code", EXAMPLES)
def test_problems_are_one_line_with_a_place_and_a_fix(code: str) -> None:
    text = with_head(EXAMPLES[code])
    lines = text.splitlines()
    for problem in check(text, file="recipe.yaml", targets=EVERY, neighbours=NEIGHBOURS):
        assert "\n" not in problem.message + (problem.hint or "")
        assert problem.hint
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


@pytest.mark.parametrize(
    ("code", "before", "after"),
    [
        ("R301", "architecture: arm64", "architecture: aarch64"),
        ("R302", "{OS: linux}", "{os: linux}"),
        ("R406", "Timeout: '010'", "Timeout: '10'"),
        ("R416", "Run: python3", "Run: exec python3"),
        ("R501", "{A: {configuration:/x}}", "{A: '{configuration:/x}'}"),
        ("R502", "{configuration:x}", "{configuration:/x}"),
        ("R601", "'>=2.0'", "'>=2.0.0'"),
        ("R803", "[PublishToTopic]", "[aws.greengrass#PublishToTopic]"),
        ("R805", "a?b", "a${?}b"),
        ("R906", "mode: 0755", "mode: '0755'"),
    ],
)
def test_safe_fixes(code: str, before: str, after: str) -> None:
    text = with_head(EXAMPLES[code])
    changed = fixed(text, check(text, file="recipe.yaml"))
    assert changed == text.replace(before, after)
    assert code not in found(changed, targets=DEFAULT_TARGETS)


def test_a_wider_grant_is_no_safe_fix() -> None:
    for code in ("R807", "R808", "R809"):
        text = with_head(EXAMPLES[code])
        assert fixed(text, check(text, file="recipe.yaml")) == text


def test_fixes_in_scripts_of_several_lines() -> None:
    text = with_head(steps("Run: |\n      echo one\n      exec a {configuration:x}"))
    changed = fixed(text, check(text, file="recipe.yaml"))
    assert "exec a {configuration:/x}" in changed
    (problem,) = [one for one in check(text, file="recipe.yaml") if one.code == "R502"]
    assert text.splitlines()[problem.line - 1][problem.column - 1 :] == "{configuration:x}"


def test_images_are_no_files() -> None:
    text = with_head(steps("Run: exec a", artifacts("Uri: 'docker:x@sha256:1'", "Uri: 'docker:y@sha256:1'")))
    assert "R701" not in found(text)
    assert "R703" in found(with_head(steps("Run: exec a", artifacts("Uri: 's3//b/x'"))))


def test_targets_choose_the_rules() -> None:
    text = with_head("Manifests: [{Platform: {os: /linux/}}]\nColour: red\n")
    assert "L105" not in found(text, targets=DEFAULT_TARGETS)
    assert "L105" in found(text, targets=frozenset({Target.LITE}))
    assert "R206" not in found(text, targets=frozenset({Target.DEVICE}))


def test_templates_of_gdk_raise_no_alarm() -> None:
    text = CLEAN.replace("com.example.A\n", '"{COMPONENT_NAME}"\n').replace(
        "ComponentVersion: 1.0.0", "ComponentVersion: '{COMPONENT_VERSION}'"
    )
    text = text.replace("ComponentPublisher: Us", "ComponentPublisher: '{COMPONENT_AUTHOR}'")
    text = text.replace("s3://bucket/", "s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/")
    assert check(text, file="recipe.yaml") == ()
    assert check(text.replace("'{COMPONENT_VERSION}'", "NEXT_PATCH"), file="recipe.yaml") == ()
    assert check(text.replace("'{COMPONENT_VERSION}'", "COMPONENT_VERSION"), file="recipe.yaml") == ()


@pytest.mark.parametrize(
    ("text", "code", "is_found"),
    [
        (steps("Run: exec a s3://b/c"), "", True),
        (steps("Run: exec a"), "import boto3\n", True),
        (steps("Run: exec a"), "import os, boto3\n", True),
        (steps("Run: exec a"), "keep(to='s3://b/c')\n", True),
        (steps("Run: exec a"), "s3 = 1\n", False),
        (configuration("model: s3://b/c"), "", True),
        (configuration("model: /b/c"), "", False),
    ],
)
def test_aws_at_run_time_asks_for_credentials(text: str, code: str, is_found: bool) -> None:
    codes = {problem.code for problem in check(with_head(text), file="recipe.yaml", code={"main.py": code})}
    assert ("R606" in codes) == is_found


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        (configuration("apiToken: abc123"), True),
        (configuration("aws_secret_access_key: abc123"), True),
        (configuration("mqtt.password: abc123"), True),
        (configuration("password: ''"), False),
        (configuration("secretArn: 'arn:aws:secretsmanager:eu-west-1:1:secret:x'"), False),
        (configuration("secret: 'arn:aws:secretsmanager:eu-west-1:1:secret:x'"), False),
        (configuration("maxTokens: many"), False),
        (configuration("password: '{configuration:/x}'"), False),
        (steps("Run: exec a --password hunter22"), True),
        (steps("Run: API_KEY=hunter22 exec a"), True),
        (steps("Run: exec a --password $PASSWORD"), False),
        (steps("Run: exec a --password {configuration:/password}"), False),
        (steps("Run: exec a --password --verbose"), False),
        (steps("Run: exec a AKIAIOSFODNN7EXAMPLE"), True),
    ],
)
def test_secrets_are_told_by_their_names_and_looks(text: str, is_found: bool) -> None:
    assert ("R904" in found(with_head(text))) == is_found


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (steps("Run: exec a {artifacts:path}/x-$VERSION.py", artifacts("Uri: s3://b/x-1.py")), "R513"),
        (steps("Run: exec a {artifacts:path}/x.py", artifacts("Uri: 's3://b/$ARTIFACT'")), "R513"),
        (steps("Startup: python3 -u serve.py &"), "R410"),
        (policy(f"{PUBLISH}, resources: ['a/*']"), "R809"),
    ],
)
def test_what_is_well_raises_no_alarm(text: str, code: str) -> None:
    assert code not in found(with_head(text))


def test_a_problem_is_said_once() -> None:
    text = with_head(steps("Run: exec a {configuration:/x} {configuration:/x}"))
    assert [one.code for one in check(text, file="recipe.yaml")].count("R503") == 1


def test_an_artifact_of_a_component_without_steps_is_an_error() -> None:
    """On AWS it stays root's, mode 0400."""
    text = with_head(EXAMPLES["R708"])
    (problem,) = [one for one in check(text, file="r.yaml", neighbours=NEIGHBOURS) if one.code == "R708"]
    assert problem.severity is Severity.ERROR
    readable = parse_recipe(
        HEAD.replace("com.example.A", "B")
        + steps("", artifacts("Uri: s3://b/x, Permission: {Read: ALL}")).replace("  Lifecycle:\n    \n", ""),
        file="recipe.yaml",
    )
    clean = check(text, file="r.yaml", neighbours={ComponentName("B"): (readable,)})
    assert "R708" not in {one.code for one in clean}


json_like = st.recursive(
    st.sampled_from(["~", "x", "1", "yes", "'{configuration:/x}'", "{configuration:x}", "python3 x.py", "''", "/[/"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    | st.dictionaries(
        st.sampled_from(["Run", "Script", "Timeout", "Skipif", "os", "all", "Platform", "Lifecycle", "Artifacts", "Uri",
                         "accessControl", "aws.greengrass.ipc.pubsub", "operations", "resources", "Setenv", "B"]),
        inner, max_size=3,
    ).map(lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"),
    max_leaves=10,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["Manifests", "Lifecycle", "ComponentConfiguration", "ComponentDependencies", "ComponentType"]),
        json_like,
    )
)
@settings(deadline=None, max_examples=2 * settings.default.max_examples)
def test_no_recipe_makes_a_rule_raise(parts: dict[str, str]) -> None:
    text = HEAD + "".join(f"{key}: {value}\n" for key, value in parts.items())
    check(text, file="recipe.yaml", targets=EVERY, neighbours=NEIGHBOURS, code=CODE)


@given(st.text(max_size=200))
@settings(deadline=None)
def test_no_text_makes_the_check_raise(text: str) -> None:
    check(text, file="recipe.yaml", targets=EVERY)
    check(HEAD + text, file="recipe.yaml", targets=EVERY)


@pytest.mark.parametrize(
    ("requirement", "published", "hint"),
    [
        ("^1.0.0", {"D": ("1.2.0",)}, None),
        ("^2.0.0", {"D": ("1.2.0", "1.1.0")}, "there are 1.1.0, 1.2.0"),
        ("^2.0.0", {}, "there is no D: publish it first"),
    ],
)
def test_a_registry_is_asked_for_versions(requirement: str, published: dict[str, tuple[str, ...]], hint: str) -> None:
    text = with_head(needs(f"D: {{VersionRequirement: {requirement}}}"))
    problems = check(
        text, file="r.yaml", published=lambda name: [Version.parse(one) for one in published.get(name, ())]
    )
    assert [one.hint for one in problems if one.code == "R602"] == ([hint] if hint else [])


def test_a_registry_is_not_asked_for_what_the_folder_has() -> None:
    asked: list[str] = []
    text = with_head(needs("B: {VersionRequirement: ^1.0.0}"))
    check(text, file="r.yaml", neighbours=NEIGHBOURS, published=lambda name: asked.append(name) or ())
    assert asked == []


@pytest.mark.parametrize(
    ("timeout", "code"),
    [("9" * 400, "R407"), ("2147483648", "R407"), ("2147483647", None), ("1e999", "R405"), (".nan", "R405")],
)
def test_timeouts_beyond_all_measure(timeout: str, code: str | None) -> None:
    codes = found(with_head(steps(f"Run: {{Script: exec a, Timeout: {timeout}}}")))
    assert {one for one in codes if one.startswith("R40")} == ({code} if code else set())
