import ArgumentParser
import Glibc
import Scenarios

/// What `run --change-host` starts beside itself: it outlives the run, whatever becomes of that.
struct RestoreHostCommand: ParsableCommand {
  static let name = "restore-host"

  static let configuration = CommandConfiguration(
    commandName: name,
    abstract: "Wait for the end of the input, and put back settings of the host.",
    discussion: "Started by `run --change-host`. Input that says \"done\" means that all is well.",
    shouldDisplay: false)

  @Argument(help: "One name=value for each setting.")
  var settings: [String] = []

  func run() throws {
    guard let found = HostSettings(arguments: settings) else {
      throw Failure(64, "kvmclock: \(Self.name) is for the use of `run --change-host` alone")
    }
    for signal in [SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGPIPE] { signal.ignore() }
    try Output.write(HostKeeper.readiness)
    var said: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64)
    while true {
      let count = read(0, &buffer, buffer.count)
      if count > 0 { said += buffer.prefix(count) }
      if count == 0 || (count < 0 && errno != EINTR) { break }
    }
    if said == Array("done".utf8) { return }
    let problems = found.restore()
    for problem in problems { Output.complain("kvmclock: \(problem)") }
    if !problems.isEmpty { throw ExitCode(1) }
  }
}

extension Int32 {
  fileprivate func ignore() { _ = Glibc.signal(self, SIG_IGN) }
}
