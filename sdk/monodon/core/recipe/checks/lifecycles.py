"""Rules about lifecycle steps: what runs, when, and for how long."""

import re
from collections.abc import Iterator

from monodon.core.recipe.checks.rule import DEVICE, ERROR, HINT, WARNING, Found, rule
from monodon.core.recipe.checks.subject import Step, Subject
from monodon.core.recipe.keys import STEP_KEYS, STEPS
from monodon.core.recipe.nodes import Entries, Items, Node, Scalar, child
from monodon.core.recipe.problems import closest

# Patterns are compiled where they are first used, not while the command line starts.
_KNOWN_IN_LIFECYCLE = (*STEPS, "Setenv", "errorResetTime")
_TRUE_OR_FALSE = frozenset({"true", "yes", "on", "t", "y", "false", "no", "off", "f", "n"})
_SKIPIF = r"!?\s*(?:exists|onpath)\s+\S.*"
_PYTHON = r"(?:^|[;&|]\s*|\n\s*)(exec\s+)?((?:\S*/)?python[0-9.]*)((?:\s+-\S+)*)\s+(?=\S*\.py\b|-m\s|\{)"
_NETWORK = (
    r"\b(?:pip3?|python[0-9.]* -m pip) install(?![^\n]*--no-index)|\b(?:apt-get|apt|yum|dnf|apk) (?:-\S+ )*install|"
    r"\bnpm (?:install|ci)\b|\bcurl |\bwget "
)
_ENDLESS = r"\bwhile (?:true|:|\[ 1 \])|\bsleep infinity|\btail -f|\bpython[0-9.]* |\bnode |\bjava "
_MAX_INT = 2**31 - 1
_DEFAULT_TIMEOUTS_S = {
    "Bootstrap": 120,
    "Install": 120,
    "Startup": 120,
    "Shutdown": 15,
    "Recover": 60,
    "Uninstall": 120,
}


def _is_empty(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.value is None)


def _timeouts(subject: Subject) -> Iterator[tuple[Step, Scalar]]:
    for step in subject.steps:
        node = step.get("Timeout")
        if isinstance(node, Scalar) and node.value is not None and "{" not in node.text:
            yield step, node


@rule("R401", WARNING)
def run_and_startup(subject: Subject) -> Iterator[Found]:
    """A lifecycle has both Run and Startup.

    A device runs Startup alone; Run is reached only if Startup is skipped.
    """
    for node, pointer, _ in subject.step_maps:
        run, startup = node.key("Run"), node.key("Startup")
        if run and startup and not _is_empty(node.get("Run")) and not _is_empty(node.get("Startup")):
            message = "Run is never reached: a device runs Startup, if there is one"
            yield Found(run, child(pointer, run.text), message, "keep one of the two")


@rule("R402", WARNING)
def unknown_step(subject: Subject) -> Iterator[Found]:
    """A lifecycle has a key that is no step.

    A device ignores it. In the global lifecycle a word of Selections is taken for a selection instead.
    """
    known = [name.lower() for name in _KNOWN_IN_LIFECYCLE]
    for node, pointer, _ in subject.step_maps:
        for key, _value in node.entries:
            if key.text.lower() in known:
                continue
            close = closest(key.text, _KNOWN_IN_LIFECYCLE, cutoff=0.6)
            hint = f"did you mean {close}?" if close else f"steps are {', '.join(STEPS)}"
            yield Found(key, child(pointer, key.text), f"{key.text!r} is no step: a device ignores it", hint)


@rule("R403", ERROR)
def step_without_script(subject: Subject) -> Iterator[Found]:
    """A step is a map without Script.

    The component ends in ERRORED with INSTALL_CONFIG_NOT_VALID (or that of its step).
    """
    for step in subject.steps:
        if isinstance(step.node, Entries) and not step.node.get("Script"):
            yield Found(step.key, step.pointer, f"{step.name} has no Script", "add Script: what to run")
        elif isinstance(step.node, Items):
            yield Found(step.key, step.pointer, f"{step.name} is a list", "write one script, or a map with Script")


@rule("R404", WARNING)
def unknown_key_of_a_step(subject: Subject) -> Iterator[Found]:
    """A step has a key that a device ignores."""
    known = [name.lower() for name in STEP_KEYS]
    for step in subject.steps:
        if not isinstance(step.node, Entries):
            continue
        for key, _ in step.node.entries:
            if key.text.lower() not in known:
                close = closest(key.text, STEP_KEYS, cutoff=0.6)
                hint = f"did you mean {close}?" if close else f"known are {', '.join(STEP_KEYS)}"
                yield Found(key, child(step.pointer, key.text), f"{key.text!r} of {step.name} is ignored", hint)


@rule("R405", ERROR)
def timeout_is_no_number(subject: Subject) -> Iterator[Found]:
    """A Timeout is not a number of seconds.

    A device takes text such as ``2m`` for 0: the step times out at once.
    """
    for step, node in _timeouts(subject):
        if isinstance(node.value, bool) or not re.fullmatch(
            r"[-+]?[0-9_]*\.?[0-9_]+|0x[0-9a-fA-F]+", node.text.strip()
        ):
            message = f"Timeout {node.text!r} of {step.name} is 0 seconds on a device"
            yield Found(node, child(step.pointer, "Timeout"), message, "write whole seconds: Timeout: 120")


@rule("R406", ERROR)
def timeout_is_octal(subject: Subject) -> Iterator[Found]:
    """A Timeout has a leading zero, which makes it octal.

    ``010`` is 8 seconds, as YAML and in quotes.
    """
    for step, node in _timeouts(subject):
        if re.fullmatch(r"0[0-9]+", node.text.strip()):
            text = node.text.strip()
            means = int(text, 8) if re.fullmatch(r"[0-7]+", text) else 0
            right = text.lstrip("0") or "0"
            message = f"Timeout {text} of {step.name} is octal: {means} seconds"
            yield Found(node, child(step.pointer, "Timeout"), message, f"write {right}", text, right)


@rule("R407", WARNING)
def timeout_is_cut(subject: Subject) -> Iterator[Found]:
    """A Timeout is a fraction, zero, below zero or beyond all measure.

    A device cuts fractions off, and at zero a step times out at once. It holds seconds in 32 bits.
    """
    for step, node in _timeouts(subject):
        if not re.fullmatch(r"[-+]?[0-9_]*\.?[0-9_]*[0-9]_*", node.text.strip()):
            continue  # no number: said by another rule
        seconds = float(node.text.replace("_", ""))
        if seconds > _MAX_INT:
            message = f"Timeout {node.text[:40]} of {step.name} is more than a device can hold"
            yield Found(node, child(step.pointer, "Timeout"), message, "leave it out: Run may take forever")
        elif seconds <= 0 or seconds != int(seconds):
            message = f"Timeout {node.text} of {step.name} is {max(int(seconds), 0)} seconds on a device"
            yield Found(node, child(step.pointer, "Timeout"), message, "write whole seconds, above 0")


@rule("R408", ERROR)
def skipif_grammar(subject: Subject) -> Iterator[Found]:
    """A Skipif is neither ``exists <path>`` nor ``onpath <program>``.

    Lower case, one blank at least, ``!`` in front to negate. Anything else ends in ERRORED with *_CONFIG_NOT_VALID.
    """
    for step in subject.steps:
        node = step.get("Skipif")
        if (
            isinstance(node, Scalar)
            and node.value is not None
            and not re.fullmatch(_SKIPIF, node.text.strip(), re.DOTALL)
        ):
            message = f"Skipif {node.text!r} of {step.name} is not understood"
            yield Found(node, child(step.pointer, "Skipif"), message, "write 'exists <path>' or 'onpath <program>'")


@rule("R409", WARNING)
def privilege_is_no_boolean(subject: Subject) -> Iterator[Found]:
    """RequiresPrivilege is neither true nor false.

    A device takes any word it does not know for false.
    """
    for step in subject.steps:
        node = step.get("RequiresPrivilege")
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.text.lower() not in _TRUE_OR_FALSE:
            if "{" in node.text:
                continue
            message = f"RequiresPrivilege {node.text!r} of {step.name} is false on a device"
            yield Found(node, child(step.pointer, "RequiresPrivilege"), message, "write true or false")


@rule("R410", WARNING)
def long_running_startup(subject: Subject) -> Iterator[Found]:
    """A Startup step that goes on has the default time-out.

    Startup has to end, or to report RUNNING over IPC, within 120 seconds, or the component fails with STARTUP_TIMEOUT.
    Say how long loading may take; or use Run for a program that reports nothing.
    """
    for step, script in subject.scripts:
        ends = script.text.rstrip().endswith("&")
        if step.name == "Startup" and not ends and step.get("Timeout") is None and re.search(_ENDLESS, script.text):
            hint = "set Timeout, and report RUNNING when ready; or make it Run"
            yield Found(script, step.pointer, "Startup goes on, with the default time-out of 120 seconds", hint)


@rule("R411", WARNING)
def run_where_a_gate_is_meant(subject: Subject) -> Iterator[Found]:
    """The code reports that it is ready, but runs as a Run step.

    With Run the component counts as RUNNING as soon as its process exists: a deployment succeeds although the
    program is about to fail. Startup waits for the report.
    """
    reports = [
        name for name, text in subject.code.items() if re.search(r"\.ready\(\)|update_state\(|UpdateState", text)
    ]
    for step in subject.steps:
        if reports and step.name == "Run" and not _is_empty(step.node):
            message = f"{reports[0]} reports when it is ready, but Run does not wait for it"
            yield Found(step.key, step.pointer, message, "make it Startup, with a Timeout")


@rule("R412", WARNING)
def selection_that_selects_nothing(subject: Subject) -> Iterator[Found]:
    """A word of Selections stands nowhere in the global lifecycle."""
    lifecycle = subject.top("Lifecycle")
    words = set(_all_keys(lifecycle)) if isinstance(lifecycle, Entries) else set()
    for manifest, pointer in subject.manifests:
        key, node = manifest.key("Selections"), manifest.get("Selections")
        if key is None or not isinstance(node, Items):
            continue
        for index, item in enumerate(node.items):
            if isinstance(item, Scalar) and item.text not in words and item.text != "all":
                close = closest(item.text, words, cutoff=0.6)
                hint = f"did you mean {close}?" if close else "case counts here"
                message = f"the selection {item.text!r} stands nowhere in the global Lifecycle"
                yield Found(item, child(child(pointer, key.text), index), message, hint)


def _all_keys(node: Node) -> Iterator[str]:
    if isinstance(node, Entries):
        for key, value in node.entries:
            yield key.text
            yield from _all_keys(value)


@rule("R413", WARNING)
def selections_beside_a_lifecycle(subject: Subject) -> Iterator[Found]:
    """A manifest has Selections and a Lifecycle of its own.

    Its own is used as it is, and the selections are for nothing.
    """
    for manifest, pointer in subject.manifests:
        key, own = manifest.key("Selections"), manifest.get("Lifecycle")
        if key is not None and not _is_empty(manifest.get("Selections")) and isinstance(own, Entries) and own.entries:
            message = "Selections do nothing here: the manifest's own Lifecycle is used as it is"
            yield Found(key, child(pointer, key.text), message, "remove one of the two")


@rule("R414", WARNING)
def unused_global_lifecycle(subject: Subject) -> Iterator[Found]:
    """The global lifecycle is used by no manifest: each has its own."""
    key, node = subject.root.key("Lifecycle"), subject.top("Lifecycle")
    own = [manifest.get("Lifecycle") for manifest, _ in subject.manifests]
    if key is None or not isinstance(node, Entries) or not node.entries or not own:
        return
    if all(isinstance(one, Entries) and one.entries for one in own):
        message = "no manifest uses the global Lifecycle: each has its own"
        yield Found(key, child("", key.text), message, "remove it, or the manifests' own")


@rule("R415", WARNING)
def empty_script(subject: Subject) -> Iterator[Found]:
    """A script is empty, so the step counts as absent."""
    for step, script in subject.scripts:
        if not script.text.strip():
            yield Found(script, step.pointer, f"the script of {step.name} is empty: the step is absent", "remove it")


@rule("R416", HINT)
def python_without_exec(subject: Subject) -> Iterator[Found]:
    """A long-running Python program is started without exec.

    The shell stays in between, takes the signal to stop, and its child learns of it late. ``exec`` puts the program
    in the shell's place.
    """
    for step, script in subject.scripts:
        if step.name not in ("Run", "Startup"):
            continue
        lines = script.text.strip().splitlines()
        found = re.match(_PYTHON, lines[-1].strip() + " ") if lines else None
        if found and not found[1] and not lines[-1].rstrip().endswith("&"):
            message = f"{found[2]} is started without exec"
            yield Found(
                script, step.pointer, message, f"write exec {found[2]}", lines[-1].strip(), f"exec {lines[-1].strip()}"
            )


@rule("R417", WARNING)
def python_with_buffered_output(subject: Subject) -> Iterator[Found]:
    """Python is started without -u.

    What it prints stays in a buffer, and comes late into the component's log, or never when it is killed.
    """
    buffered = {key.text for environment, _ in subject.environments for key, _ in environment.entries}
    for step, script in subject.scripts:
        for found in re.finditer(_PYTHON, script.text):
            options = found[3].split()
            is_unbuffered = any(re.fullmatch(r"-[A-Za-z]*u[A-Za-z]*", option) for option in options)
            if step.name in ("Run", "Startup") and not is_unbuffered and "PYTHONUNBUFFERED" not in buffered:
                hint = f"write {found[2]} -u"
                yield Found(
                    script, step.pointer, f"{found[2]} is started without -u: its log comes late", hint, found[2]
                )


@rule("R418", WARNING)
def installs_from_the_network(subject: Subject) -> Iterator[Found]:
    """An Install step fetches something from the network, with the default time-out.

    The step runs at every launch of the nucleus, too, and 120 seconds are short on a slow link. Bring what is needed as
    an artifact; or use ``pip install --no-index``, or set a Timeout.
    """
    for step, script in subject.scripts:
        found = re.search(_NETWORK, script.text)
        if step.name in ("Install", "Bootstrap") and found and step.get("Timeout") is None:
            message = f"{step.name} uses the network ({found[0].strip()}), with the default time-out of 120 seconds"
            yield Found(script, step.pointer, message, "bring it as an artifact, or set Timeout", found[0].strip())


@rule("R419", WARNING)
def ends_in_the_background(subject: Subject) -> Iterator[Found]:
    """A Run script puts its program into the background and ends.

    The component is FINISHED then, and a device stops what is left of its processes.
    """
    for step, script in subject.scripts:
        if step.name == "Run" and re.search(r"[^&]&\s*$", script.text):
            yield Found(script, step.pointer, "Run ends at once: its program is in the background", "remove the '&'")


@rule("R420", WARNING)
def bash_in_sh(subject: Subject) -> Iterator[Found]:
    """A script uses what only bash knows.

    Steps run with ``sh -c``, which is dash on Debian and Ubuntu.
    """
    pattern = re.compile(r"(?:^|[\s;&|])(\[\[|source|function|<<<|declare|pushd)\s", re.MULTILINE)
    for step, script in subject.scripts:
        found = pattern.search(script.text)
        if found and not re.search(r"\bbash\s+-c", script.text):
            message = f"{found[1]} in {step.name} needs bash, and steps run with sh"
            hint = "write '. file' for source, '[ … ]' for '[[ … ]]'; or call bash -c"
            yield Found(script, step.pointer, message, hint, found[1])


@rule("R421", HINT)
def sudo_in_a_script(subject: Subject) -> Iterator[Found]:
    """A script calls sudo.

    The component's user seldom may. ``RequiresPrivilege: true`` runs the step as root.
    """
    for step, script in subject.scripts:
        if re.search(r"(?:^|[\s;&|])sudo\s", script.text):
            hint = "set RequiresPrivilege: true for this step"
            yield Found(script, step.pointer, f"{step.name} calls sudo", hint, "sudo")


@rule("R422", WARNING, DEVICE)
def slow_shutdown(subject: Subject) -> Iterator[Found]:
    """A Shutdown step sleeps longer than it may take.

    15 seconds by default, for the script and for stopping the processes.
    """
    for step, script in subject.scripts:
        found = re.search(r"\bsleep (\d+)", script.text)
        limit = step.get("Timeout")
        seconds = limit.value if isinstance(limit, Scalar) and isinstance(limit.value, int) else None
        allowed = seconds or _DEFAULT_TIMEOUTS_S.get(step.name)
        if found and allowed is not None and step.name != "Startup" and int(found[1]) >= allowed:
            message = f"{step.name} sleeps {found[1]} seconds, and may take {allowed}"
            yield Found(script, step.pointer, message, "set Timeout", found[0])
