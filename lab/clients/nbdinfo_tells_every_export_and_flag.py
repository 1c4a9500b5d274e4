"""nbdinfo lists every volume, tells its size, and finds each flag the server promises."""

import json

from labkit.scene import expect, expect_equal, need_programs
from labkit.server import server_kind, start_server

CASES = ["unix", "tcp"]
FLAGS = ["flush", "fua", "trim", "zero", "fast-zero", "multi-conn", "df", "cache"]


def run(scene, transport):
    need_programs("nbdinfo")
    server = start_server(scene, {"main": "256M", "other": "64M"}, transport=transport)
    told = json.loads(scene.run(["nbdinfo", "--json", server.uri("other")]))
    export = told["exports"][0]
    expect_equal(export["export-size"], 64 << 20, "size of the second volume")
    expect_equal(told["protocol"], "newstyle-fixed", "protocol")
    expect(told["structured"], "structured replies are negotiated")
    expect("base:allocation" in export["contexts"], "base:allocation is offered")
    expect_equal(scene.run(["nbdinfo", "--size", server.uri()]).strip(), str(256 << 20), "size of the first volume")
    for flag in FLAGS:
        if not (flag in ("fast-zero", "cache") and server_kind() == "nbdkit"):
            scene.run(["nbdinfo", "--can", flag, server.uri()])
    scene.run(["nbdinfo", "--is", "readonly", server.uri()], status=2)
    listed = json.loads(scene.run(["nbdinfo", "--list", "--json", server.uri()]))
    names = {e["export-name"] for e in listed["exports"]}
    expect({"lab.main", "lab.other"} <= names, f"both volumes are listed, found {sorted(names)}")
