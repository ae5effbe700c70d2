#!/usr/bin/env python3
"""A VMM with an HTTP API on a unix socket, as Firecracker has one: QEMU behind a bridge. It shows that the steps of a driver's file
that are requests work, where no such VMM is at hand.

    http_vmm.py API-SOCKET
"""

import json
import os
import signal
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

SECONDS_AT_MOST = 20


class Refusal(Exception):
    """A request that cannot be granted."""


class QEMU:
    """QEMU, with COM1 on the terminal of this process."""

    def __init__(self, kernel, vcpus, qmp, more=()):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(qmp)
        listener.listen(1)
        listener.settimeout(SECONDS_AT_MOST)
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "kvm", "-M", "microvm", "-cpu", "qemu64", "-m", "32", "-nodefaults", "-no-user-config",
             "-display", "none", "-kernel", kernel, "-smp", str(vcpus), "-chardev", "stdio,id=com1,signal=off", "-serial", "chardev:com1",
             "-qmp", "unix:" + qmp, *more])
        self.lines = listener.accept()[0].makefile("rw")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while line := self.lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise Refusal(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]
        raise Refusal("QEMU ended")

    def until(self, command, is_done):
        while not is_done(answer := self.ask(command)):
            if answer.get("status") == "failed":
                raise Refusal(answer.get("error-desc", "it failed"))

    def save(self, path):
        self.ask("migrate", uri=f"exec:cat > {path}")
        self.until("query-migrate", lambda answer: answer.get("status") == "completed")

    @classmethod
    def load(cls, path, kernel, vcpus, qmp):
        machine = cls(kernel, vcpus, qmp, ["-incoming", f"exec:cat {path}"])
        machine.until("query-status", lambda answer: answer["status"] != "inmigrate")
        return machine


class API(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    vcpus, kernel, machine, qmp = 1, None, None, None

    def address_string(self):
        return "a unix socket"

    def log_message(self, *_):
        pass

    def answer(self):
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.act(f"{self.command} {self.path}", body)
        except (Refusal, KeyError, ValueError, OSError) as problem:
            text = json.dumps({"fault_message": str(problem)}).encode()
            self.send_response(400)
            # In two chunks: a client has to put them together.
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in (text[:7], text[7:], b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        else:
            self.send_response(204)
            self.end_headers()

    do_PUT = do_PATCH = answer

    def act(self, request, body):
        match request:
            case "PUT /machine-config":
                if not isinstance(body["vcpu_count"], int):
                    raise Refusal("vcpu_count is no number")
                API.vcpus = body["vcpu_count"]
            case "PUT /boot-source":
                API.kernel = body["kernel_image_path"]
            case "PUT /actions" if body["action_type"] == "InstanceStart":
                API.machine = QEMU(API.kernel, API.vcpus, API.qmp)
            case "PATCH /vm":
                API.machine.ask({"Paused": "stop", "Resumed": "cont"}[body["state"]])
            case "PUT /snapshot/create":
                API.machine.save(body["snapshot_path"])
                Path(body["snapshot_path"] + ".facts").write_text(json.dumps([API.kernel, API.vcpus]))
            case "PUT /snapshot/load":
                facts = json.loads(Path(body["snapshot_path"] + ".facts").read_text())
                API.kernel, API.vcpus = facts
                API.machine = QEMU.load(body["snapshot_path"], *facts, API.qmp)
            case _:
                raise Refusal(f"there is no {request}")


def main():
    # Its owner ends the whole process group, and QEMU with it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    API.qmp = sys.argv[1] + ".qmp"
    with UnixStreamServer(sys.argv[1], API) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
