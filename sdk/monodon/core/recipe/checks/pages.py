"""What is to be known about problems that no rule here finds: those of the reader, and of the component's code."""

from collections.abc import Mapping

PAGES: Mapping[str, str] = {
    "R001": "The text is not YAML or JSON.\n\nA device reads nothing of it. JSON has no comments, no trailing commas.",
    "R002": "The file is too large to be a recipe.\n\nMore than 1 MiB or 50000 parts is not read. AWS takes 16 KB.",
    "R003": "The text is not UTF-8.",
    "R004": "The text is nested too deeply.\n\nMore than 100 levels are not read.",
    "R005": "The file is empty, or is about something else.",
    "R006": "A key appears twice.\n\nThe last one counts, without a word from the device.",
    "R007": "YAML anchors and aliases are not expanded.\n\n``*name`` is the text ``name``, ``<<`` an ordinary key.",
    "R008": "The file has more than one YAML document.\n\nA device reads the first alone.",
    "R009": "A number cannot be held by a device.\n\nInfinite, not a number, out of range, or endless digits.",
    "R010": "There are more problems than are shown.",
    "R011": "A recipe.py cannot be run, or makes no recipes.",
    "R101": "A key that a device needs is missing.",
    "R102": "A key is unknown.\n\nA device ignores it; AWS refuses unknown keys at the top level.",
    "R103": "A value is of the wrong kind: text, a list or a map is needed.",
    "R104": "A value is none of the words that are allowed here.",
    "R105": "A version is not a semantic version.\n\nThree numbers, each up to 999999; at most 64 characters.",
    "R106": "A name is none that AWS takes.\n\n1 to 128 letters, digits, '-', '_' and '.'.",
    "R107": "A version requirement is none that a device understands.\n\nComparators are joined by blanks, not commas.",
    "R108": "A URI is malformed, or names no file.",
    "R109": "A list holds an empty element, which a device refuses.",
    "R820": "The code uses what accessControl does not allow.\n\nThe call fails with UnauthorizedError on a device.",
    "R821": "accessControl allows more than the code uses.\n\n``monodon recipe grants`` prints the least.",
    "R822": "An earlier version's grants stay on devices.\n\nMerged values stay until a deployment resets them.",
}
