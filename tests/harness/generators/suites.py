"""Convert the test suites of specifications to the compact files that the conformance tests read.

``python -m harness.generators.suites cel FOLDER`` reads the unpacked npm package of the CEL tests,
``json-schema FOLDER`` the folder ``draft2020-12`` of the JSON Schema Test Suite.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

SUITES: Final = Path(__file__).parents[2] / "conformance" / "specifications"

_DUMP: Final = """
const { tests } = await import(process.argv[1]);
process.stdout.write(JSON.stringify(tests.suites));
"""
# What definitions cannot express: messages, names with dots, checks without evaluation.
_MESSAGES: Final = re.compile(
    r"TestAllTypes|google\.protobuf|proto\.\w+Ext|cel\.(?:block|iterVar|index)\b"
)
_TYPES: Final = frozenset({"Duration", "Timestamp"})


def main(kind: str, folder: str) -> None:
    if kind == "cel":
        _write("cel", _cel(Path(folder)))
    else:
        _write("json_schema", _json_schema(Path(folder)))


def _write(name: str, cases: list[Any]) -> None:
    lines = ",\n".join(
        json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases
    )
    # Some texts are only valid as escapes.
    (SUITES / f"{name}.json").write_bytes(f"[\n{lines}\n]\n".encode(errors="backslashreplace"))


def _cel(package: Path) -> list[Any]:
    source = (package / "dist" / "esm" / "testdata" / "conformance.js").resolve()
    command = ["node", "--input-type=module", "-e", _DUMP, source.as_uri()]
    dumped = subprocess.run(command, check=True, capture_output=True)
    return [
        {"id": f"{file['name']}/{section['name']}/{case['name']}", **_compact(case)}
        for file in json.loads(dumped.stdout)
        for section in file.get("suites", ())
        for case in (test["original"] for test in section.get("tests", ()))
        if _is_expressible(case)
    ]


def _compact(case: dict[str, Any]) -> dict[str, Any]:
    names = {name: bound["value"] for name, bound in case.get("bindings", {}).items()}
    return {"expr": case["expr"], **({"names": names} if names else {}), **_wanted(case)}


def _is_expressible(case: dict[str, Any]) -> bool:
    outside = json.dumps([case.get("typeEnv"), case.get("bindings"), case.get("value")])
    messages = set(re.findall(r"google\.protobuf\.(\w+)", outside)) - _TYPES
    return not (
        messages
        or case.keys() & {"container", "checkOnly", "typedResult"}
        or "conformance" in outside
        or _MESSAGES.search(case["expr"])
        or any("." in name for name in case.get("bindings", ()))
    )


def _wanted(case: dict[str, Any]) -> dict[str, Any]:
    if "evalError" in case:
        return {"error": True}
    # A test without a value expects true.
    return {"value": case.get("value", {"boolValue": True})}


def _json_schema(folder: Path) -> list[Any]:
    return [
        {
            "id": f"{path.relative_to(folder).with_suffix('')}: {case['description']}",
            "schema": case["schema"],
            "tests": [[test["description"], test["data"], test["valid"]] for test in case["tests"]],
        }
        for path in sorted(folder.rglob("*.json"))
        for case in json.loads(path.read_bytes())
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
