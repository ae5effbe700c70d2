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

  @OptionGroup var choice: RuleChoice

  @Option(
    help: ArgumentHelp(
      "Keep what was recorded in a new folder, one file for each run of a scenario.",
      valueName: "dir"),
    completion: .directory)
  var history: String?

  @Option(help: "Seed of the random choices, decimal or 0x…; random if absent, always printed.")
  var seed: Seed?

  @Flag(
    help: """
      Also switch the host's clocksource, slew its clock and test a suspend (pm_test); put back \
      afterwards, even after ^C or a crash. For scratch hosts.
      """)
  var changeHost = false

  @Option(
    help: ArgumentHelp("vCPUs in the many-vCPU test (default 65).", valueName: "n"))
  var vcpus: Int?

  @Flag(help: "Also run the scenarios that take minutes.")
  var long = false

  @Flag(help: "Show how long each scenario took.")
  var timings = false

  @Flag(help: "Say which scenarios and rules would run, and run none.")
  var dryRun = false

  @Flag(help: "Stop after the first scenario that breaks a rule.")
  var failFast = false

  @Option(
    name: .customLong("repeat"),
    help: ArgumentHelp(
      "Run so many times, each with the next seed; report the first broken run, else the last.",
      valueName: "n"))
  var rounds: Int?

  @Flag(help: "Repeat until a rule is broken; with --repeat, at most that many times.")
  var untilBroken = false

  @Option(
    help: ArgumentHelp(
      "Only the rules that were broken or inconclusive in a JSON report, with its seed.",
      valueName: "file"),
    completion: .file())
  var rerun: String?

  @Flag(
    help: """
      Name each scenario in the kernel's log before it starts, so that the log of a host that \
      panics says which one it was. For root.
      """)
  var kmsg = false

  @Option(
    help: ArgumentHelp("KVM's device.", valueName: "path"),
    completion: .file())
  var device = "/dev/kvm"

  @Option(
    help: """
      Who serves the guests' clock: kernel, KVM itself; model, our user-space model behind the MSR \
      filter; interference, KVM with time restarted at each write of vCPU 0, as in Linux 4.2.
      """)
  var host = ClockKind.kernel

  @Option(
    help: ArgumentHelp(
      "Put a fault of `kvmclock faults` into the model. Implies --host model.", valueName: "id"))
  var fault: String?

  @OptionGroup var options: ReportOptions

  func validate() throws {
    let selected = try choice.selected()
    if let rounds, rounds < 1 {
      throw ValidationError("--repeat is at least 1, not \(rounds).")
    }
    if let fault, !Fault.all.contains(where: { $0.id == fault }) {
      throw ValidationError("there is no fault '\(fault)'. `kvmclock faults --list` shows them.")
    }
    guard !changeHost, let rule = selected.first(where: \.needsHostChange),
      choice.rules.contains(where: { $0.uppercased() == rule.id })
    else { return }
    throw ValidationError(
      "\(rule.id) needs a host that may be changed. On a scratch host, add --change-host.")
  }

  func run() throws {
    var plan = try self.plan()
    if dryRun { return try Output.write(DryRun.text(plan)) }
    let cancellation = Cancellation()
    let interruption = Interruption(cancelling: cancellation)
    var host = try inspect()
    do { plan.clock = try maker(host) } catch { throw Failure(error) }
    host.clock = plan.clock?.name
    try options.prepare()
    let tables = try options.tables()
    var round = 1
    var report: Report
    var hasLost = false
    var stream: VerdictStream?
    repeat {
      let session = RunSession(
        keeper: try HistoryKeeper(
          run: RunFacts(command: "run", options: repeatOptions),
          folder: history.map { isRepeated ? "\($0)/round-\(round)" : $0 }),
        kernelLog: kmsg ? try KernelLog() : nil, stopsAtFirst: failFast,
        isQuiet: options.isQuiet, stream: isRepeated ? nil : options.stream(for: plan.rules))
      stream = session.stream
      report = try session.run(plan, host, cancellation) { report throws(Failure) in
        try options.settled(report)
      }
      hasLost = hasLost || session.hasFailed
      if isRepeated, !options.isQuiet {
        Output.complain("round \(round), seed \(plan.seed): \(report.answer)")
      }
      if report.exitCode == 1 || cancellation.isCancelled || round == rounds { break }
      round += 1
      plan.seed &+= 1
    } while isRepeated
    for table in tables { report.include(table) }
    let isInterrupted = report.interruption != nil && cancellation.isCancelled
    if isInterrupted { report.interruption = interruption.signalName }
    let isComplete = options.deliver(
      [report], style: ReportStyle(showsTimings: timings, isVerbose: options.verbose),
      stream: stream)
    if isInterrupted { throw ExitCode(interruption.exitCode) }
    let code = options.exitCode(of: report)
    if hasLost || !isComplete, code != 1 { throw ExitCode(74) }
    throw ExitCode(code)
  }

  private var isRepeated: Bool { rounds != nil || untilBroken }

  /// The rules, scenarios and seed, of the command line or of the report that is to be run again.
  private func plan() throws -> RunPlan {
    var rules = try choice.selected()
    var only = choice.scenarios
    var seed = seed?.value
    if let rerun {
      let saved: SavedReport
      do { saved = try SavedReport.read(rerun) } catch { throw Failure(error) }
      let open = saved.verdicts.filter { [.broken, .inconclusive].contains($0.verdict) }
      guard !open.isEmpty else {
        throw Failure(64, "kvmclock: \(rerun): no rule is broken or inconclusive there")
      }
      let ids = Set(open.map(\.rule))
      rules = rules.filter { ids.contains($0.id) }
      only =
        only
        ?? Set(rules.flatMap(\.scenarios)).union(
          open.compactMap { ScenarioName(rawValue: $0.scenario) })
      seed = seed ?? saved.seed
    }
    var plan = RunPlan(
      rules: rules, seed: seed ?? UInt64(UInt32.random(in: 0...(.max))), device: device)
    plan.only = only
    plan.vcpus = vcpus
    plan.isLong = long
    plan.changesHost = changeHost
    plan.restorer = ["/proc/self/exe", RestoreHostCommand.name]
    return plan
  }

  private func maker(_ facts: HostFacts) throws(KVMError) -> ClockMaker? {
    guard let fault = Fault.all.first(where: { $0.id == fault }) else {
      return try host.maker(facts, device: device)
    }
    try ClockKind.requireSupport(of: device)
    return fault.maker(facts)
  }

  private func inspect() throws(Failure) -> HostFacts {
    do { return try HostInspection.facts(device: device) } catch {
      // As kselftest has it: a skipped plan, and the status that stands for it.
      if options.kselftest {
        try Output.write(KTAPReport.skipped("KVM cannot be used: \(error)"))
        throw Failure(4, "kvmclock: \(error)")
      }
      throw Failure(error)
    }
  }

  /// What a repetition needs besides rules and seed.
  private var repeatOptions: String {
    (device == "/dev/kvm" ? "" : " --device \(device)") + (changeHost ? " --change-host" : "")
      + (host == .kernel ? "" : " --host \(host.rawValue)") + (fault.map { " --fault \($0)" } ?? "")
      + (long ? " --long" : "") + (vcpus.map { " --vcpus \($0)" } ?? "")
  }
}

extension ClockKind: ExpressibleByArgument {}

/// What would run, and what would not.
private enum DryRun {
  static func text(_ plan: RunPlan) -> String {
    let indent = (plan.scenarios.map(\.rawValue.count).max() ?? 0) + 2
    var lines = plan.scenarios.map { name in
      let rules = plan.rules.filter { $0.isExercised(by: name.rawValue) }.map(\.id)
      let said = plan.reasonToLeaveOut(name) ?? rules.joined(separator: ", ")
      return Layout.item(name.rawValue, said, indent: indent)
    }
    lines.append(
      "\(plan.scenarios.count) scenarios, \(plan.rules.count) rules, seed \(plan.seed)\n")
    return lines.joined()
  }
}
