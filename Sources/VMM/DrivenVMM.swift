package import ABIChecker
internal import Glibc

/// Any VMM, driven as a JSON file says.
package final class DrivenVMM: VirtualMachineMonitor {
  package var name: String { file.name }
  package var verbs: Set<VMMVerb> { file.ability }
  private let file: DriverFile
  private let place: Workplace
  private let tracer: Tracer?
  private let guest: (elf: String, flat: String)
  private let isCancelled: () -> Bool
  private var made = 0

  package init(
    json: [UInt8], tracer: Tracer? = nil, isCancelled: @escaping () -> Bool
  ) throws(VMMError) {
    file = try DriverFile(json: json)
    self.tracer = tracer
    self.isCancelled = isCancelled
    place = try Workplace()
    guest = (
      try place.write(GuestFile.elf.bytes, to: "guest.elf"),
      try place.write(GuestFile.flat.bytes, to: "guest.bin")
    )
  }

  package func start(
    vcpus: Int, spare: Int, from origin: Origin
  ) throws(VMMError) -> any MonitoredMachine {
    made += 1
    let folder = "\(place.path)/\(made)"
    guard mkdir(folder, 0o700) == 0 else {
      throw .cannotStart(what: folder, reason: String(cString: strerror(errno)))
    }
    var values = [
      "dir": folder, "id": "kvmclock-\(getpid())-\(made)", "guest": guest.elf, "flat": guest.flat,
      "vcpus": "\(vcpus)", "most": "\(vcpus + spare)",
    ]
    let launch: (key: String, verb: VMMVerb)
    switch origin {
    case .boot: launch = ("start", .start)
    case .file(let path): (launch, values["state"]) = (("restore", .restore), path)
    case .migration(let path): (launch, values["place"]) = (("receive", .migrate), path)
    }
    guard let how = file.launches[launch.key] else { throw .noVerb(launch.verb) }
    return try DrivenMachine(
      file, how, launch.verb, Placeholders(values: values), vcpus, tracer, isCancelled: isCancelled)
  }
}

private final class DrivenMachine: MonitoredMachine {
  let console: Console
  private let file: DriverFile
  private let process: ChildProcess
  private let folder: String
  private var placeholders: Placeholders
  private var vcpus: Int
  private let isCancelled: () -> Bool

  init(
    _ file: DriverFile, _ launch: DriverFile.Launch, _ verb: VMMVerb, _ placeholders: Placeholders,
    _ vcpus: Int, _ tracer: Tracer?, isCancelled: @escaping () -> Bool
  ) throws(VMMError) {
    self.file = file
    self.placeholders = placeholders
    self.vcpus = vcpus
    self.isCancelled = isCancelled
    folder = placeholders.fill("{dir}")
    let words = launch.program.map(placeholders.fill)
    let terminal = file.console == .stdio ? try Terminal() : nil
    process = try ChildProcess(
      tracer?.words(for: words) ?? words, output: "\(folder)/said", terminal: terminal?.path)
    let process = process
    switch file.console {
    case .stdio:
      let terminal = terminal!
      console = Console(
        of: process, send: terminal.send,
        receive: {
          let bytes = terminal.receive(within: $0)
          return bytes.isEmpty && process.ending != nil ? nil : bytes
        }, isCancelled: isCancelled)
    case .socket(let path):
      // Some VMMs listen at once, others once the machine has been made.
      let stream = LazyStream(path: placeholders.fill(path), process)
      console = Console(
        of: process, send: stream.send, receive: stream.receive, isCancelled: isCancelled)
    }
    try run(launch.steps, verb)
  }

  private func run(
    _ steps: [DriverFile.Step], _ verb: VMMVerb, _ more: [String: String] = [:]
  ) throws(VMMError) {
    var filling = placeholders
    filling.values["vcpus"] = "\(vcpus)"
    filling.values.merge(more) { $1 }
    for step in steps {
      if isCancelled() { throw .cancelled }
      switch step {
      case .command(let words):
        let command = try ChildProcess(words.map(filling.fill), output: "\(folder)/step")
        guard command.ends(within: 60_000) else {
          throw .timedOut(what: "the end of \(words[0])", milliseconds: 60_000)
        }
        guard command.ending == "exit status 0" else {
          throw .refused(
            verb: verb, reason: "\(words[0]): \(command.ending ?? ""): \(command.said)")
        }
      case .request(let method, let path, let body):
        let stream = try Stream(
          path: filling.fill(file.api!), milliseconds: 20_000, isAlive: process.requireAlive)
        do {
          try HTTP.request(
            method, filling.fill(path), body: body.map { filling.fill($0).text }, on: stream,
            for: verb, milliseconds: 60_000)
        } catch {
          // One that ended says more than a connection that it closed.
          if case .noAnswer = error, process.ends(within: 1000) { try process.requireAlive() }
          throw error
        }
      }
    }
  }

  private func run(_ verb: VMMVerb, _ more: [String: String] = [:]) throws(VMMError) {
    guard let steps = file.verbs[verb] else { throw .noVerb(verb) }
    try process.requireAlive()
    try run(steps, verb, more)
  }

  func pause() throws(VMMError) { try run(.pause) }
  func resume() throws(VMMError) { try run(.resume) }
  func save(to path: String) throws(VMMError) { try run(.save, ["state": path]) }
  func awaitState() throws(VMMError) {}
  func migrate(to place: String) throws(VMMError) { try run(.migrate, ["place": place]) }
  func reset() throws(VMMError) { try run(.reset) }

  func plug() throws(VMMError) {
    vcpus += 1
    try run(.plug)
  }

  func unplug() throws(VMMError) {
    vcpus -= 1
    try run(.unplug)
  }

  func awaitUnplugged() throws(VMMError) {}

  func quit() {
    if file.verbs[.quit] != nil { try? run(.quit) }
    if !process.ends(within: file.verbs[.quit] == nil ? 0 : 2000) { process.end() }
  }
}

/// A socket that is connected when it is used first, and again after its other side closed it.
private final class LazyStream {
  private let path: String
  private let process: ChildProcess
  private var stream: Stream?

  init(path: String, _ process: ChildProcess) {
    (self.path, self.process) = (path, process)
  }

  private func connected(within milliseconds: Int) -> Stream? {
    if stream == nil {
      stream = try? Stream(
        path: path, milliseconds: milliseconds, isAlive: process.requireAlive)
    }
    return stream
  }

  func send(_ text: String) -> Bool { connected(within: 1000)?.send(text) ?? false }

  func receive(within milliseconds: Int) -> [UInt8]? {
    guard let stream = connected(within: milliseconds) else {
      return process.ending == nil ? [] : nil
    }
    if let bytes = stream.receive(within: milliseconds) { return bytes }
    self.stream = nil
    return process.ending == nil ? [] : nil
  }
}
