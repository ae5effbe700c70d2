import Foundation
import Testing

/// `kvmclock vmm`: what it is given wrong, and what it makes of a VMM that does not start.
@Suite struct VMMCommandTests {
  private func write(_ json: String, in folder: Folder) throws {
    try json.write(toFile: "\(folder.path)/d.json", atomically: true, encoding: .utf8)
  }

  @Test func withoutAVMMItHelps() throws {
    let child = try Child("$K vmm", in: Folder())
    child.expect(0)
    #expect(child.output.contains("--driver my-vmm.json"))
  }

  @Test(arguments: [
    ("--vcpus 0", 64, "--vcpus is a number from 1 to 15, not 0."),
    ("--rounds 0", 64, "--rounds is at least 1"),
    ("--only paus", 64, "--only is one of run, pause"),
    ("--pause maybe", 64, "maybe"), ("--restore runs-on", 64, "resumes"),
    ("--history /dev/null/x", 74, "/dev/null/x"),
  ])
  func badOptionsAreNamed(options: String, code: Int32, words: String) throws {
    try Child("$K vmm toy \(options)", in: Folder()).expect(code, words)
  }

  @Test func aDriverThatIsAbsentOrWrongIsNamed() throws {
    let folder = try Folder()
    try Child("$K vmm --driver absent.json", in: folder).expect(66, "absent.json")
    try write(#"{"name": "a"}"#, in: folder)
    try Child("$K vmm --driver d.json", in: folder).expect(65, "the driver's file is wrong")
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func aVMMThatDoesNotStartIsNoVerdict() throws {
    let folder = try Folder()
    try write(
      #"{"name": "a", "console": "stdio", "start": {"program": ["no-such-vmm"]}}"#, in: folder)
    try Child("$K vmm --driver d.json", in: folder).expect(69, "no-such-vmm")
    try write(
      #"{"name": "a", "console": "stdio", "start": {"program": ["sh", "-c", "echo no room >&2; exit 3"]}, "reset": []}"#,
      in: folder)
    try Child("$K vmm --driver d.json", in: folder).expect(69, "exit status 3; it said: no room")
    // A verb that the driver lacks, asked for first, says nothing of whether the VMM starts.
    try Child("$K vmm --driver d.json --only pause --only reset", in: folder)
      .expect(69, "no room")
  }

  /// What clears up ends nothing but what the command made, whatever TMPDIR is called; and a program gets the files it was given.
  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func whatIsNotTheCommandsStays() throws {
    let folder = try Folder()
    try write(
      #"{"name": "a", "console": "stdio", "start": {"program": ["sh", "-c", "echo given >&3; exit 5"]}}"#,
      in: folder)
    let child = try Child(
      """
      mkdir 'a b *'; touch a b keep
      TMPDIR="$D/a b *" $K vmm --driver d.json 3>given 2>/dev/null; echo $? >code
      for try in $(seq 500); do [ -z "$(ls 'a b *')" ] && break; sleep 0.01; done
      sleep 0.2; ls a b keep && [ -z "$(ls 'a b *')" ] && cat given code
      """, in: folder)
    child.expect(0)
    #expect(child.output == "a\nb\nkeep\ngiven\n69\n")
    try Child("TMPDIR=\"$(printf 'a\\nb')\" $K vmm --driver d.json", in: folder)
      .expect(69, "the name of TMPDIR has a line break")
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func aRestoreIsJudgedAsItIsDeclared() throws {
    let toy = "$K vmm toy --only snapshot --rounds 1 --vcpus 1 --restore"
    try Child("\(toy) resumes", in: Folder()).expect(0)
    let child = try Child("\(toy) catches-up", in: Folder())
    child.expect(1)
    #expect(child.output.contains("it counts the stop, as is declared"))
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func whatIsNoQEMUIsNamed() throws {
    try Child("$K vmm qemu --binary /bin/true", in: Folder()).expect(
      69, "/bin/true could not be started: --version does not say that it is QEMU; name QEMU by")
    // A wrapper may say something of its own first.
    let folder = try Folder()
    try Child(
      """
      printf '#!/bin/sh\\necho my wrapper\\necho QEMU emulator version 9.0; exit 7\\n' > q; chmod +x q
      $K vmm qemu --binary $D/q
      """, in: folder
    ).expect(69, "exit status 7")
  }

  /// Killed some time later, and before it knows that the VMM runs.
  @Test(.enabled(if: Host.hasKVM, Host.reason), arguments: ["", "kill -KILL $PPID;"])
  func aVMMEndsWithACommandThatIsKilled(then: String) throws {
    let folder = try Folder()
    try write(
      """
      {"name": "a", "console": "stdio",
       "start": {"program": ["sh", "-c", "echo $$ >vmm; \(then) exec sleep 60"]}}
      """, in: folder)
    let child = try Child(
      """
      TMPDIR=$D taskset -c "$(taskset -cp $$ | sed 's/.*[^0-9]//')" $K vmm --driver d.json >/dev/null & command=$!
      until [ -s vmm ]; do sleep 0.01; done
      kill -KILL $command
      for try in $(seq 1000); do [ -e /proc/$(cat vmm) ] || break; sleep 0.01; done
      [ ! -e /proc/$(cat vmm) ] && for try in $(seq 1000); do ls -d kvmclock-vmm-* || exit 0; sleep 0.01; done
      kill -KILL $(cat vmm); exit 1
      """, in: folder)
    #expect(child.code == 0, "\(child.complaint)")
  }

  /// At every moment: while a machine is made, while its guest boots, while it answers.
  @Test(.enabled(if: Host.hasKVM, Host.reason), arguments: Array(stride(from: 0, to: 600, by: 40)))
  func aSignalEndsItWithAReport(milliseconds: Int) throws {
    let child = try Child(
      """
      $K vmm toy & command=$!
      sleep 0.$(printf %03d \(milliseconds)); kill -TERM $command; wait $command
      """, in: Folder())
    #expect(child.code == 128 + SIGTERM, "\(child.complaint)")
  }

  @Test func theGuestIsWritten() throws {
    let folder = try Folder()
    try Child("$K vmm guest -o g.elf && $K vmm guest --format flat -o g.bin", in: folder).expect(0)
    let elf = try Data(contentsOf: URL(fileURLWithPath: "\(folder.path)/g.elf"))
    let flat = try Data(contentsOf: URL(fileURLWithPath: "\(folder.path)/g.bin"))
    #expect(elf.starts(with: [0x7f, 0x45, 0x4c, 0x46]) && elf.suffix(flat.count) == flat)
    try Child("$K vmm guest -o /absent/g", in: folder).expect(74, "/absent/g")
  }

  /// Commas end QEMU's options, and a shell saves and restores.
  @Test(
    .enabled(if: Host.hasKVM, Host.reason),
    .enabled(if: access("/usr/bin/qemu-system-x86_64", X_OK) == 0, "needs Debian's qemu-system-x86")
  )
  func anyNameOfTMPDIRWillDo() throws {
    let child = try Child(
      """
      export TMPDIR="$D/a, b='c *"; mkdir "$TMPDIR"
      $K vmm qemu --only snapshot --only migration --rounds 1 --vcpus 1
      """, in: Folder())
    child.expect(0)
    #expect(child.output.contains("holds         SNAPSHOT-CLOCK"))
    #expect(child.output.contains("holds         MIGRATE-CLOCK"))
  }

  /// QEMU behind a driver's file, by commands: what people write for a VMM of their own.
  @Test(
    .enabled(if: Host.hasKVM, Host.reason),
    .enabled(if: access("/usr/bin/qemu-system-x86_64", X_OK) == 0, "needs Debian's qemu-system-x86")
  )
  func aDriverOfCommandsWorks() throws {
    let folder = try Folder()
    let monitor = """
      import json,socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f=s.makefile("rw"); f.readline(); \
      [(f.write(json.dumps({"execute":c})+"\\n"),f.flush(),f.readline()) for c in ("qmp_capabilities",sys.argv[2])]
      """
    func verb(_ command: String) -> [Any] {
      [["run": ["python3", "-c", monitor, "{dir}/qmp", command]]]
    }
    let file: [String: Any] = [
      "name": "QEMU by commands", "console": ["socket": "{dir}/com1"],
      "start": [
        "program": [
          "qemu-system-x86_64", "-accel", "kvm", "-M", "microvm", "-cpu", "qemu64", "-m", "32",
          "-nodefaults", "-no-user-config", "-display", "none", "-kernel", "{guest}", "-smp",
          "{vcpus}", "-qmp", "unix:{dir}/qmp,server=on,wait=off", "-serial",
          "unix:{dir}/com1,server=on,wait=off",
        ]
      ],
      "pause": verb("stop"), "resume": verb("cont"),
    ]
    try JSONSerialization.data(withJSONObject: file).write(
      to: URL(fileURLWithPath: "\(folder.path)/d.json"))
    let child = try Child(
      "$K vmm --driver d.json --vcpus 1 --only pause --only reset --pause stands-still", in: folder)
    child.expect(0)
    #expect(child.output.contains("QEMU by commands") && child.output.contains("SOUND"))
    #expect(child.output.contains("reset: the driver of QEMU by commands has no such verb"))
  }

  /// The same by requests, as Firecracker has them, to a bridge between HTTP and QEMU.
  @Test(
    .enabled(if: Host.hasKVM, Host.reason),
    .enabled(if: access("/usr/bin/qemu-system-x86_64", X_OK) == 0, "needs Debian's qemu-system-x86")
  )
  func aDriverOfRequestsWorks() throws {
    let folder = try Folder()
    let bridge = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../http_vmm.py").standardized.path
    func file(_ changes: [String: Any] = [:]) throws {
      let program = ["python3", bridge, "{dir}/api"]
      func put(_ path: String, _ body: [String: Any], _ method: String = "PUT") -> [String: Any] {
        ["method": method, "path": path, "body": body]
      }
      let file: [String: Any] = [
        "name": "QEMU by requests", "console": "stdio", "api": "{dir}/api",
        "start": [
          "program": program,
          "steps": [
            put("/machine-config", ["vcpu_count": "{vcpus}"]),
            put("/boot-source", ["kernel_image_path": "{guest}"]),
            put("/actions", ["action_type": "InstanceStart"]),
          ],
        ],
        "pause": [put("/vm", ["state": "Paused"], "PATCH")],
        "resume": [put("/vm", ["state": "Resumed"], "PATCH")],
        "save": [put("/snapshot/create", ["snapshot_path": "{state}"])],
        "restore": [
          "program": program, "steps": [put("/snapshot/load", ["snapshot_path": "{state}"])],
        ],
        "reset": [put("/reset", [:])],
      ]
      try JSONSerialization.data(withJSONObject: file.merging(changes) { $1 }).write(
        to: URL(fileURLWithPath: "\(folder.path)/d.json"))
    }
    try file()
    let command = "TMPDIR=$D timeout 120 $K vmm --driver d.json --vcpus 1 --pause stands-still"
    let child = try Child("\(command) --restore resumes --verbose", in: folder)
    child.expect(0)
    #expect(child.output.contains("QEMU by requests") && child.output.contains("SOUND"))
    for rule in ["PAUSE-CLOCK", "SNAPSHOT-CLOCK", "SNAPSHOT-TELLS-GUEST", "VMM-CLOCK-RUNS"] {
      #expect(child.output.contains(rule), "\(child.output)")
    }
    // A refusal is told in the server's words, put together from two chunks.
    #expect(
      child.output.contains(
        "PUT /reset: status 400 {\"fault_message\": \"there is no PUT /reset\"}"),
      "\(child.output)")

    try file([
      "start": [
        "program": ["python3", bridge, "{dir}/api"],
        "steps": [
          ["method": "PUT", "path": "/machine-config", "body": ["vcpu_count": "many"]]
        ],
      ]
    ])
    try Child(command, in: folder).expect(
      69, "status 400 {\"fault_message\": \"vcpu_count is no number\"}")
    try file([
      "start": [
        "program": ["sh", "-c", "echo no room >&2; exit 3"],
        "steps": [
          ["method": "PUT", "path": "/machine-config"]
        ],
      ]
    ])
    try Child(command, in: folder).expect(69, "exit status 3; it said: no room")
  }
}
