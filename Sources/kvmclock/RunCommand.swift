import ABIChecker
import ArgumentParser
import HostModel
import KVM
import Reporting
import Scenarios

/// Runs scenarios on this host and judges what they recorded.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run the scenarios that exercise rules, and judge them.",
    discussion: """
      Without --change-host nothing on the host is changed: no module is loaded, no clocksource \
      switched. The same seed makes the same choices.
      """)

  @Argument(
    help: "Ids of rules, * and ? allowed; all rules if none is given.",
    completion: RuleSelection.completion)
  var rules: [String] = []

  @Option(
    help: ArgumentHelp("Keep what was recorded, one file a run.", valueName: "dir"),
    completion: .directory)
  var history: String?

  @Option(help: "Seed of the random choices, decimal or 0x…; random if absent, always printed.")
  var seed: Seed?

  @Flag(help: "Leave out what takes waiting, for the edit loop.")
  var quick = false

  @Flag(
    help: """
      Also switch the host's clocksource, slew its clock and go through the motions of a suspend; \
      put back afterwards, also after ^C or a crash. For scratch hosts.
      """)
  var changeHost = false

  @Option(
    help: ArgumentHelp("vCPUs of the machine with many; 65 if absent.", valueName: "n"))
  var vcpus: Int?

  @Flag(help: "Also run what takes minutes.")
  var long = false

  @Flag(help: "Show how long each scenario took.")
  var timings = false

  @Option(
    help: ArgumentHelp("KVM's device.", valueName: "path"),
    completion: .file())
  var device = "/dev/kvm"

  @Option(
    help: """
      Who serves the guests' clock: kernel, KVM itself; model, a kvmclock of our own behind the MSR \
      filter; interference, KVM with time restarted at each write of vCPU 0, as in Linux 4.2.
      """)
  var host = ClockKind.kernel

  @OptionGroup var options: ReportOptions

  func validate() throws {
    let selected = try RuleSelection.rulesOfKVM(rules)
    guard !changeHost, let rule = selected.first(where: \.needsHostChange),
      rules.contains(where: { $0.uppercased() == rule.id })
    else { return }
    throw ValidationError(
      "\(rule.id) needs a host that may be changed. On a scratch host, add --change-host.")
  }

  func run() throws {
    var plan = RunPlan(
      rules: try RuleSelection.rulesOfKVM(rules),
      seed: seed?.value ?? UInt64(UInt32.random(in: 0...(.max))), device: device)
    plan.vcpus = vcpus
    plan.isQuick = quick
    plan.isLong = long
    plan.changesHost = changeHost
    plan.restorer = ["/proc/self/exe", RestoreHostCommand.name]
    let cancellation = Cancellation()
    let interruption = Interruption(cancelling: cancellation)
    var host = try inspect()
    do { plan.clock = try self.host.maker(host, device: device) } catch { throw Failure(error) }
    host.clock = plan.clock?.name
    var keeper = HistoryKeeper(folder: history, remembers: options.showsHistories)
    try keeper.prepare()
    try options.prepare()
    let tables = try options.tables()
    var report = try run(plan, host, cancellation, &keeper)
    for table in tables { report.include(table) }
    if report.interruption != nil { report.interruption = interruption.signalName }
    let isComplete = options.deliver(
      [report], style: ReportStyle(showsTimings: timings, isVerbose: options.verbose))
    if report.interruption != nil { throw ExitCode(interruption.exitCode) }
    if keeper.hasFailed || !isComplete, report.exitCode != 1 { throw ExitCode(74) }
    throw ExitCode(report.exitCode)
  }

  private func inspect() throws(Failure) -> HostFacts {
    do { return try HostInspection.facts(device: device) } catch { throw Failure(error) }
  }

  private func run(
    _ plan: RunPlan, _ host: HostFacts, _ cancellation: Cancellation,
    _ keeper: inout HistoryKeeper
  ) throws(Failure) -> Report {
    let began = ContinuousClock.now
    let date = Output.date
    let result: RunResult
    do {
      result = try Runner.run(plan, host: host, cancellation: cancellation) { keeper.keep($0) }
    } catch {
      throw Failure(error)
    }
    var report = Report(
      version: Kvmclock.version, host: host, seed: plan.seed, verdicts: result.verdicts,
      planned: plan.rules.count)
    report.hostname = HostInspection.hostname
    report.date = date
    report.retries = result.retries
    report.nanoseconds = UInt64((ContinuousClock.now - began) / .nanoseconds(1))
    report.timings = result.timings.map {
      ScenarioTiming(scenario: $0.scenario, attempt: $0.attempt, nanoseconds: $0.nanoseconds)
    }
    report.files = keeper.files
    report.notes = keeper.notes
    report.histories = keeper.histories
    report.repeatOptions =
      (device == "/dev/kvm" ? "" : " --device \(device)") + (changeHost ? " --change-host" : "")
      + (self.host == .kernel ? "" : " --host \(self.host.rawValue)") + (long ? " --long" : "")
      + (vcpus.map { " --vcpus \($0)" } ?? "")
    report.strict = options.strict
    report.interruption = result.wasCancelled ? "" : nil
    report.noGuestRuns = result.noGuestRuns
    return report
  }
}

extension ClockKind: ExpressibleByArgument {}
