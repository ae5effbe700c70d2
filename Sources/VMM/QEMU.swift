package import ABIChecker
internal import Glibc

/// QEMU, driven by its machine protocol.
package final class QEMU: VirtualMachineMonitor {
  package let name: String
  package let verbs = Set(VMMVerb.allCases)
  private let binary: String
  private let machine: String
  private let firmware: String?
  private let options: [String]
  private let tracer: Tracer?
  private let place: Workplace
  private let guest: String
  private let isCancelled: () -> Bool
  private var made = 0

  /// - Parameters:
  ///   - binary: a path, or a name to look for; nil for the usual ones.
  ///   - options: more of QEMU's own options: they come last.
  package init(
    binary: String?, machine: String = "q35", options: [String], tracer: Tracer? = nil,
    isCancelled: @escaping () -> Bool
  ) throws(VMMError) {
    let names =
      binary.map { [$0] } ?? [
        "qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm", "qemu-system-x86_64-microvm",
      ]
    guard let found = names.lazy.compactMap(ChildProcess.path).first else {
      throw .missing(
        what: names[0],
        remedy: binary == nil
          ? "install QEMU (Debian: qemu-system-x86), or name it by --binary"
          : "name QEMU by --binary PATH")
    }
    self.binary = found
    self.machine = machine
    self.options = options
    self.tracer = tracer
    self.isCancelled = isCancelled
    firmware = [
      "/usr/share/qemu/qboot.rom", "/usr/share/qemu-kvm/qboot.rom", "/usr/share/seabios/qboot.rom",
      "/usr/local/share/qemu/qboot.rom",
    ]
    .first { access($0, R_OK) == 0 }
    guard firmware != nil || machine == "microvm" else {
      throw .missing(
        what: "qboot.rom", remedy: "install it (Debian: qemu-system-data), or use --machine microvm"
      )
    }
    place = try Workplace()
    guest = try place.write(GuestFile.elf.bytes, to: "guest.elf")
    name = try Self.version(of: found, place) + ", \(machine)"
  }

  private static func version(of binary: String, _ place: Workplace) throws(VMMError) -> String {
    let process = try ChildProcess([binary, "--version"], output: "\(place.path)/version")
    guard process.ends(within: 10_000) else { return "QEMU" }
    guard process.said.contains("QEMU") else {
      throw .cannotStart(
        what: binary, reason: "--version does not say that it is QEMU; name QEMU by --binary PATH")
    }
    let words = process.said.split(separator: " ")
    return words.count > 3 && words[0] == "QEMU" ? "QEMU \(words[3])" : "QEMU"
  }

  package func start(
    vcpus: Int, spare: Int, from origin: Origin
  ) throws(VMMError) -> any MonitoredMachine {
    made += 1
    let paths = (qmp: "\(place.path)/\(made).qmp", com1: "\(place.path)/\(made).com1")
    var words = [
      binary, "-accel", "kvm", "-M", machine, "-cpu", "qemu64", "-m", "32", "-nodefaults",
      "-no-user-config", "-display", "none", "-kernel", guest,
      "-smp",
      spare > 0
        ? "\(vcpus),maxcpus=\(vcpus + spare),sockets=\(vcpus + spare)"
        : "\(vcpus),sockets=\(vcpus)",
      "-qmp", "unix:\(inOption(paths.qmp)),server=on,wait=off",
      "-chardev", "socket,id=com1,path=\(inOption(paths.com1)),server=on,wait=off",
      "-serial", "chardev:com1",
    ]
    if let firmware { words += ["-bios", firmware] }
    switch origin {
    case .boot: break
    case .file(let path): words += ["-incoming", "exec:cat \(inShell(path))"]
    case .migration(let path): words += ["-incoming", "unix:\(path)"]
    }
    words += options
    let process = try ChildProcess(
      tracer?.words(for: words) ?? words, output: "\(place.path)/\(made).said")
    return try QEMUMachine(process, paths.qmp, paths.com1, isCancelled: isCancelled)
  }
}

private final class QEMUMachine: MonitoredMachine {
  let console: Console
  private let process: ChildProcess
  private let monitor: QMP
  /// The device that was plugged last.
  private var plugged: String?
  private var plugs = 0

  init(
    _ process: ChildProcess, _ qmp: String, _ com1: String, isCancelled: @escaping () -> Bool
  ) throws(VMMError) {
    self.process = process
    monitor = try QMP(qmp, process, milliseconds: 20_000)
    let stream = try Stream(path: com1, milliseconds: 20_000, isAlive: process.requireAlive)
    console = Console(
      of: process, send: stream.send, receive: { stream.receive(within: $0) },
      isCancelled: isCancelled)
  }

  func pause() throws(VMMError) { _ = try monitor.ask("stop", for: .pause) }
  func resume() throws(VMMError) { _ = try monitor.ask("cont", for: .resume) }
  func reset() throws(VMMError) { _ = try monitor.ask("system_reset", for: .reset) }

  func save(to path: String) throws(VMMError) {
    try migrate("exec:cat > \(inShell(path))", for: .save)
  }

  func migrate(to place: String) throws(VMMError) { try migrate("unix:\(place)", for: .migrate) }

  func migratePaused(
    to place: String, _ pause: () throws(VMMError) -> Void
  ) throws(VMMError) {
    // So slow that it does not end before it is paused.
    try limit(bytesPerSecond: 1 << 19)
    try migrate("unix:\(place)", for: .migrate) { () throws(VMMError) in
      try pause()
      try limit(bytesPerSecond: 1 << 40)
    }
  }

  private func limit(bytesPerSecond: Int) throws(VMMError) {
    _ = try monitor.ask(
      "migrate-set-parameters", ["max-bandwidth": .number(Double(bytesPerSecond))], for: .migrate)
  }

  private func migrate(
    _ uri: String, for verb: VMMVerb, onceActive act: () throws(VMMError) -> Void = {}
  ) throws(VMMError) {
    _ = try monitor.ask("migrate", ["uri": .string(uri)], for: verb)
    var hasActed = false
    try poll("the end of the migration") { () throws(VMMError) in
      let state = try monitor.ask("query-migrate", for: verb)
      let status = state["status"]?.string ?? ""
      if status == "failed" || status == "cancelled" {
        throw .refused(verb: verb, reason: state["error-desc"]?.string ?? "migration \(status)")
      }
      if status == "active", !hasActed {
        hasActed = true
        try act()
      }
      return status == "completed"
    }
  }

  func awaitState() throws(VMMError) {
    try poll("the machine's state") { () throws(VMMError) in
      try monitor.ask("query-status")["status"]?.string != "inmigrate"
    }
  }

  private func poll(
    _ what: String, _ isDone: () throws(VMMError) -> Bool
  ) throws(VMMError) {
    let end = Stream.now + 60_000
    while try !isDone() {
      guard Stream.now < end else { throw .timedOut(what: what, milliseconds: 60_000) }
      Stream.nap()
    }
  }

  func plug() throws(VMMError) {
    let slots = try monitor.ask("query-hotpluggable-cpus", for: .plug).array ?? []
    // QEMU lists the last one first.
    guard let free = slots.reversed().first(where: { $0["qom-path"] == nil }),
      case .object(var arguments)? = free["props"], let type = free["type"]
    else { throw .refused(verb: .plug, reason: "it has no room for another vCPU") }
    plugs += 1
    let id = "plugged\(plugs)"
    arguments["driver"] = type
    arguments["id"] = .string(id)
    _ = try monitor.ask("device_add", arguments, for: .plug)
    plugged = id
  }

  func unplug() throws(VMMError) {
    guard let plugged else { throw .refused(verb: .unplug, reason: "nothing is plugged") }
    _ = try monitor.ask("device_del", ["id": .string(plugged)], for: .unplug)
  }

  func awaitUnplugged() throws(VMMError) {
    try monitor.await(event: "DEVICE_DELETED", milliseconds: 10_000)
    plugged = nil
  }

  func quit() {
    _ = try? monitor.ask("quit", for: .quit)
    if !process.ends(within: 2000) { process.end() }
  }
}

/// A path as a shell takes it for one word.
private func inShell(_ path: String) -> String {
  "'" + path.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#)
    + "'"
}

/// A path as a value of one of QEMU's options, which end at a comma.
private func inOption(_ path: String) -> String {
  path.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
}
