import ABIChecker
import ArgumentParser
import Glibc
import Inside
import Reporting
import Scenarios

/// Judges the clock of the guest in which it runs.
struct InsideCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inside",
    abstract:
      "Run inside a KVM guest: judge the guest's clock, or watch it for pauses and migrations.",
    discussion: """
      Any user may run it, in any Linux guest; it needs no /dev/kvm. It reads vCPU 0's clock record, \
      which the guest's kernel shows to every process for the vDSO. It writes no MSR and changes \
      nothing. For some seconds it keeps the CPUs busy that it may use.

      With --watch it waits, and reports when clock and TSC part: a pause, a migration, a restore \
      from a snapshot. The command of --exec finds the facts in KVMCLOCK_EVENT, KVMCLOCK_MESSAGE, \
      KVMCLOCK_TOLD, KVMCLOCK_MOVED_NS, KVMCLOCK_STOOD_STILL_NS, KVMCLOCK_CLOCK_NS, \
      KVMCLOCK_TSC_NS and KVMCLOCK_REALTIME_NS.

      EXAMPLES
        kvmclock inside                                 a verdict in 10 seconds
        kvmclock inside --for 10m --history out         longer; keep the recording
        kvmclock inside --watch                         until ^C
        kvmclock inside --watch --format json --for 1d  one JSON object a line
        kvmclock inside --watch --exec 'systemctl restart chronyd'

      EXIT STATUS
        0    no rule is broken, or the watch is over
        1    a rule is broken
        2    one is undecided
        69   there is no record to read; the reason and a remedy are shown
      """)

  @Option(
    name: .customLong("for"),
    help: ArgumentHelp(
      "How long: 10s, 10m, 1h30m. 10s if absent; with --watch, until ^C.", valueName: "time"))
  var time: Span?

  @Option(
    help: ArgumentHelp("Keep what was recorded, for `kvmclock check`.", valueName: "dir"),
    completion: .directory)
  var history: String?

  @Flag(help: "Report pauses, migrations and restores as they happen; judge no rules.")
  var watch = false

  @Option(
    help: ArgumentHelp(
      "With --watch: write the figures there for node_exporter's textfile collector.",
      valueName: "file"),
    completion: .file())
  var prometheus: String?

  @Option(
    help: ArgumentHelp("With --watch: a shell command to run at each event.", valueName: "command"))
  var exec: String?

  @Option(
    help: ArgumentHelp(
      "With --watch: milliseconds between two looks at the record.", valueName: "ms")
  )
  var interval: UInt64 = 200

  @Option(
    help: ArgumentHelp(
      "With --watch: the smallest move of the clock against the TSC to report, in microseconds.",
      valueName: "us"))
  var least: UInt64 = 1

  @Option(
    help: ArgumentHelp(
      "With --watch: milliseconds without a look that are reported, if the record is unchanged.",
      valueName: "ms"))
  var gap: UInt64 = 1000

  @Option(
    help: ArgumentHelp("A file whose first 32 bytes are read as the record.", visibility: .hidden))
  var record: String?

  @OptionGroup var options: ReportOptions

  func validate() throws {
    guard (1...3_600_000).contains(interval), gap <= 3_600_000_000, least <= 3_600_000_000 else {
      throw ValidationError("--interval is 1 to 3600000 ms; --gap and --least an hour at most.")
    }
    guard watch else {
      for (name, isGiven) in [("--prometheus", prometheus != nil), ("--exec", exec != nil)]
      where isGiven { throw ValidationError("\(name) needs --watch.") }
      return
    }
    guard [.text, .json].contains(options.format) else {
      throw ValidationError("--watch writes text, or with --format json one object a line.")
    }
    if history != nil || !options.output.isEmpty || !options.html.isEmpty
      || !options.include.isEmpty
    {
      throw ValidationError(
        "--watch judges no rules: leave out --history, --output, --html and --include.")
    }
  }

  func run() throws {
    let view = GuestView.current(record: try given())
    if watch {
      var watch = try ClockWatch(self, view)
      return try watch.run()
    }
    try judge(view)
  }

  private func given() throws(Failure) -> MappedRecord? {
    guard let path = record else { return nil }
    guard let page = MappedRecord(file: path) else {
      throw Failure(66, "kvmclock: \(path): cannot be mapped, or is shorter than 32 bytes")
    }
    return page
  }

  private func judge(_ view: GuestView) throws {
    var keeper = try HistoryKeeper(run: RunFacts(command: "inside"), folder: history)
    try options.prepare()
    let tables = try options.tables()
    let cancellation = Cancellation()
    let interruption = Interruption(cancelling: cancellation)
    let began = ContinuousClock.now
    let recorded = Recording.make(
      of: view, nanoseconds: time?.nanoseconds ?? 10_000_000_000,
      isCancelled: { cancellation.isCancelled })
    let timeline = Timeline(recorded)
    let rules = Rule.all.filter { $0.isExercised(by: Header.insideScenario) }
    var report = Report(
      version: Kvmclock.version, host: recorded.header.host, seed: nil,
      verdicts: rules.map { $0.verdict(on: [timeline]) }, planned: Rule.all.count)
    report.nanoseconds = UInt64((ContinuousClock.now - began) / .nanoseconds(1))
    report = try options.settled(report)
    report.interruption = interruption.signalName
    keeper.keep(recorded)
    keeper.describe(&report)
    for table in tables { report.include(table) }
    let isComplete = options.deliver(
      [report],
      style: ReportStyle(
        isVerbose: options.verbose, figures: InsideText.figures(view, timeline)))
    if interruption.signalName != nil { throw ExitCode(interruption.exitCode) }
    if keeper.hasFailed || !isComplete, report.exitCode != 1 { throw ExitCode(74) }
    if let absence = view.absence, report.exitCode != 1 {
      throw Failure(69, "kvmclock: no clock record to read: \(absence.reason)")
    }
    throw ExitCode(options.exitCode(of: report))
  }
}
