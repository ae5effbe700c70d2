import ABIChecker
import ArgumentParser
import Glibc
import Reporting
import Scenarios

/// Repeats what can drift or race, for hours.
struct SoakCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "soak",
    abstract: "Repeat the scenarios that can drift or race, for hours, and judge them.",
    discussion: """
      One machine lives as long as the soak does, so that its clock's drift shows; races are run \
      again and again beside it. What was found is in the checkpoint, which is written twice a \
      minute: a killed soak can be shown or resumed. ^C or SIGTERM ends it with a report.
      """)

  @Argument(
    help: "Ids of rules, * and ? allowed; all that can be soaked if none is given.",
    completion: RuleSelection.completion)
  var rules: [String] = []

  @Option(
    name: .customLong("for"),
    help: ArgumentHelp("How long: 8h, 90m, 1h30m, 45s, 2d. Until ^C if absent.", valueName: "time"))
  var time: Span?

  @Option(help: "Seed of the random choices, decimal or 0x…; random if absent, always printed.")
  var seed: Seed?

  @Option(
    help: ArgumentHelp("Where the checkpoint is kept.", valueName: "file"),
    completion: .file())
  var checkpoint = "kvmclock-soak.json"

  @Flag(
    help: """
      Go on with the soak that the checkpoint holds, up to the time of --for in all; begin one where \
      there is no checkpoint.
      """)
  var resume = false

  @Flag(help: "Run nothing; report what the checkpoint holds.")
  var show = false

  @Option(
    help: ArgumentHelp(
      "Keep the recordings of the first 20 rounds that broke a rule, a folder each.",
      valueName: "dir"),
    completion: .directory)
  var history: String?

  @Option(
    help: ArgumentHelp(
      "Write the figures there for node_exporter's textfile collector.", valueName: "file"),
    completion: .file())
  var prometheus: String?

  @Option(
    help: ArgumentHelp("KVM's device.", valueName: "path"),
    completion: .file())
  var device = "/dev/kvm"

  @OptionGroup var options: ReportOptions

  func validate() throws {
    let selected = try RuleSelection.rulesOfKVM(rules)
    if Soak.rules(of: selected).isEmpty {
      throw ValidationError(
        "\(rules.joined(separator: ", ")): no soak shows more of it than a run.")
    }
    if resume, !rules.isEmpty || seed != nil {
      throw ValidationError("--resume takes the rules and the seed from the checkpoint.")
    }
    if show, resume || time != nil {
      throw ValidationError("--show runs nothing: leave out --resume and --for.")
    }
  }

  func run() throws {
    if show { return try conclude(read().report(), interruption: nil, hasFailed: false) }
    let host: HostFacts
    do { host = try HostInspection.facts(device: device) } catch { throw Failure(error) }
    let claim = try claimCheckpoint()
    defer { withExtendedLifetime(claim) {} }
    let keeper = SoakKeeper(
      try state(on: host), checkpoint: checkpoint, prometheus: prometheus, history: history)
    // Until here there is nothing to report, and a checkpoint that is a pipe may keep it waiting.
    let cancellation = Cancellation()
    let interruption = Interruption(cancelling: cancellation)
    try options.prepare()
    try keeper.begin()
    let noGuestRuns = try soak(keeper, host, cancellation)
    keeper.finish()
    // Without --for a signal is how a soak ends.
    let isEarly = cancellation.isCancelled && time != nil
    var report = keeper.state.report()
    report.noGuestRuns = noGuestRuns
    report.histories = keeper.shown
    try conclude(
      report, interruption: isEarly ? interruption : nil, hasFailed: keeper.hasFailed)
  }

  /// Two soaks would overwrite each other's figures.
  private func claimCheckpoint() throws(Failure) -> Claim {
    let slash = checkpoint.lastIndex(of: "/")
    let folder = slash.map { String(checkpoint[...$0]) } ?? "."
    let name = slash.map { checkpoint[checkpoint.index(after: $0)...] } ?? checkpoint[...]
    guard let claim = Claim("checkpoint \(name)", in: folder) else {
      throw Failure(
        64,
        "kvmclock: another soak keeps its figures in \(checkpoint): name another file (--checkpoint)"
      )
    }
    return claim
  }

  private func newState(on host: HostFacts) throws -> SoakState {
    var state = SoakState(
      version: Kvmclock.version, host: host, device: device,
      seed: seed?.value ?? UInt64(UInt32.random(in: 0...(.max))),
      rules: Soak.rules(of: try RuleSelection.rulesOfKVM(rules)).map(\.id))
    state.hostname = HostInspection.hostname
    state.date = Output.date
    return state
  }

  /// A new soak, or what the checkpoint holds.
  private func state(on host: HostFacts) throws -> SoakState {
    guard access(checkpoint, F_OK) == 0 else { return try newState(on: host) }
    guard resume else {
      throw Failure(
        64,
        "kvmclock: \(checkpoint) is there already; go on with it (--resume), look at it (--show), "
          + "or name another file (--checkpoint)")
    }
    let state = try read()
    if let rule = state.rules.first(where: { Rule.named($0) == nil })
      ?? (state.rules.isEmpty ? "" : nil)
    {
      throw Failure(
        65,
        "kvmclock: \(checkpoint) holds "
          + (rule.isEmpty ? "no rule" : "a rule that this kvmclock does not have, \(rule)")
          + ": begin anew with another --checkpoint")
    }
    // What the machine is called does not make it another host.
    guard state.host.isSameHost(as: host) else {
      throw Failure(
        64,
        "kvmclock: \(checkpoint) holds a soak of Linux \(state.host.kernel), \(state.host.backend ?? "unknown backend"), "
          + "clocksource \(state.host.clocksource ?? "unknown"), and this host is another; "
          + "begin anew with another --checkpoint")
    }
    return state
  }

  private func read() throws(Failure) -> SoakState {
    do { return try SoakState.read(checkpoint) } catch { throw Failure(error) }
  }

  /// Goes on until the time is over, or no guest runs any more: then why.
  private func soak(
    _ keeper: SoakKeeper, _ host: HostFacts, _ cancellation: Cancellation
  ) throws(Failure) -> String? {
    let rules = keeper.state.rules.compactMap(Rule.named)
    let plan = RunPlan(rules: rules, seed: keeper.state.seed, device: device)
    do {
      let soak = try Soak(plan, host: host, cancellation: cancellation)
      while !cancellation.isCancelled, !keeper.isOver(after: time?.nanoseconds) {
        let round = keeper.state.rounds &+ 1
        let result = try soak.round(round) { keeper.keep($0) }
        keeper.end(round, result, newPairs: soak.newPairs)
        if let reason = result.noGuestRuns { return reason }
      }
      return nil
    } catch {
      keeper.finish()
      throw Failure(error)
    }
  }

  private func conclude(
    _ report: Report, interruption: Interruption?, hasFailed: Bool
  ) throws {
    var report = try options.settled(report)
    report.interruption = interruption?.signalName
    let isComplete = options.deliver(
      [report], style: ReportStyle(isVerbose: options.verbose))
    if let interruption { throw ExitCode(interruption.exitCode) }
    let code = options.exitCode(of: report)
    if hasFailed || !isComplete, code != 1 { throw ExitCode(74) }
    throw ExitCode(code)
  }
}

/// A length of time as people write it: "1h30m".
struct Span: ExpressibleByArgument {
  var nanoseconds: UInt64

  init?(argument: String) {
    let units: [Character: UInt64] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
    var seconds: UInt64 = 0
    var number = ""
    for character in argument {
      if character.isASCII, character.isNumber {
        number.append(character)
        continue
      }
      // A century and more is a typing error; the bound also keeps the arithmetic from overflowing.
      guard let unit = units[character], let count = UInt64(number), count < 100_000_000 else {
        return nil
      }
      seconds += count * unit
      number = ""
    }
    guard number.isEmpty, !argument.isEmpty, seconds < 4_000_000_000 else { return nil }
    nanoseconds = seconds * 1_000_000_000
  }
}
