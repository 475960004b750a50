"""RFC 6455 against the real server, with the Autobahn cases of the PyPI package kosoku.

    judge.py KOSOKU SYNCLINE

The cases were written for a server that echoes what it is sent. Syncline greets with a sync message,
takes binary frames of its protocol only, and closes with 4400 and 4413 where the suite expects 1002,
1007 or 1009, because y-websocket would try again for ever after those. So the verdict is made here, from
the events in kosoku's reports. A case in which every outcome that is right has an echo does not apply.
The last line is the sum.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

SECRET = "a secret for tests, 32 bytes or more"
# Compression is not offered (12, 13); measuring an echo (9).
EXCLUDED = ["9.*", "12.*", "13.*"]
# Fewer means that the reports are no longer what is read here.
APPLICABLE_MIN = 150
REFUSALS = {4400, 4413}
REFUSALS_EXPECTED = {1002, 1007, 1009}


def is_echo(event):
    return event[0] == "message"


def judge(report):
    """None if the case does not apply, else what is wrong with it, if anything."""
    outcomes = [events for events in report["expected"].values() if not any(map(is_echo, events))]
    if not outcomes:
        return None
    # What the server says of itself: its greeting.
    received = [event for event in report["received"] if not is_echo(event)]
    if received not in outcomes:
        return f"received {received}, expected one of {outcomes}"
    close = report["behaviorClose"]
    is_due = not REFUSALS_EXPECTED.isdisjoint(report["expectedClose"]["closeCode"])
    is_refused = is_due and report["remoteCloseCode"] in REFUSALS
    if close in ("OK", "INFORMATIONAL") or (close == "WRONG CODE" and is_refused):
        return ""
    return f"{close}, code {report['remoteCloseCode']}: {report['resultClose']}"


def run(kosoku, syncline, folder):
    """The reports."""
    environment = {**os.environ, "SYNCLINE_JWT_SECRET": SECRET, "SYNCLINE_LOG": "error"}
    command = [syncline, "serve", "--listen", "127.0.0.1:0", "--data", folder / "data"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    try:
        address = json.loads(server.stdout.readline())["url"].replace("http:", "ws:")
        command = [syncline, "token", "--doc", "conformance", "--access", "write", "--sub", "kosoku"]
        token = subprocess.check_output(command, env=environment, text=True).strip()
        url = f"{address}/ws/conformance?token={token}"
        exclude = [word for pattern in EXCLUDED for word in ("-x", pattern)]
        # Its exit code counts the missing echoes.
        command = [kosoku, url, *exclude, "-p", "4", "-o", folder / "reports"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, **quiet, timeout=300, check=False)
        if server.poll() is not None:
            sys.exit("the server ended")
    finally:
        server.kill()
        server.wait()
    reports = [json.loads(path.read_text()) for path in (folder / "reports").glob("*_case_*.json")]
    return sorted(reports, key=lambda report: [int(part) for part in report["id"].split(".")])


def main():
    kosoku, syncline = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        reports = run(kosoku, syncline, pathlib.Path(folder))
    passed = failed = 0
    for report in reports:
        wrong = judge(report)
        if wrong:
            print(f"not ok {report['id']} {report['description']}: {wrong}")
            failed += 1
        elif wrong is not None:
            passed += 1
    if passed + failed < APPLICABLE_MIN:
        print(f"not ok: only {passed + failed} cases apply")
        failed += 1
    print(f"{len(reports)} cases were run, of which {passed + failed} apply")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


main()
