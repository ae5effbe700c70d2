import ABIChecker
import ArgumentParser
import Reporting

/// Judges saved histories.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Judge histories that `run --history` kept, on any machine.",
    discussion: """
      A file that is cut off is judged up to there: it can prove a rule broken, but not that it \
      holds. A file that cannot be read or is no history is reported, and the others are judged.
      """)

  @Argument(
    help: ArgumentHelp("Files that hold histories.", valueName: "history"),
    completion: .file())
  var histories: [String]

  @OptionGroup var options: ReportOptions

  func run() throws {
    var saved: [SavedHistory] = []
    var failure: Failure?
    for path in histories {
      do throws(FileError) {
        let history = try HistoryFile.read(path)
        try history.requirePossible()
        saved.append(history)
      } catch {
        failure = failure ?? Failure(error)
        Output.complain(Failure(error).message)
      }
    }
    var hosts: [HostFacts] = []
    for host in saved.map(\.history.header.host) where !hosts.contains(host) { hosts.append(host) }
    guard hosts.count <= 1 || !options.needsOneReport else {
      throw Failure(
        64,
        "kvmclock: these are histories of \(hosts.count) hosts, and a file of this format holds one: "
          + "check one host's at a time")
    }
    let tables = try options.tables()
    var reports = hosts.map { host in report(saved.filter { $0.history.header.host == host }) }
    for index in reports.indices { for table in tables { reports[index].include(table) } }
    let isComplete = options.deliver(reports, style: ReportStyle(isVerbose: options.verbose))
    let codes = reports.map(\.exitCode)
    if codes.contains(1) { throw ExitCode(1) }
    if !isComplete { throw ExitCode(74) }
    if let failure { throw ExitCode(failure.code) }
    throw ExitCode(codes.contains(2) ? 2 : 0)
  }

  /// What the histories of one host say.
  private func report(_ saved: [SavedHistory]) -> Report {
    let timelines = saved.map { Timeline($0.judged) }
    let scenarios = Set(saved.map(\.history.header.scenario))
    let verdicts = Rule.all.compactMap { rule -> Verdict? in
      let verdict = rule.verdict(on: timelines)
      let isExercised = scenarios.contains { rule.isExercised(by: $0) }
      return isExercised || verdict.outcome.isBroken ? verdict : nil
    }
    // No seed repeats what a guest went through.
    let seeds = Set(saved.map(\.history.header).filter { !$0.isInside }.map(\.seed))
    var report = Report(
      version: Kvmclock.version, host: saved[0].history.header.host,
      seed: seeds.count == 1 ? seeds.first : nil, verdicts: verdicts)
    report.files = Dictionary(grouping: saved, by: \.history.header.scenario)
      .mapValues { $0.map(\.path) }
    report.notes = saved.compactMap(\.truncated) + unknown(scenarios)
    report.strict = options.strict
    if options.showsHistories { report.histories = saved.map(\.history) }
    return report
  }

  private func unknown(_ scenarios: Set<String>) -> [String] {
    scenarios.filter { ScenarioName(rawValue: $0) == nil && $0 != Header.insideScenario }.sorted()
      .map {
        "this kvmclock has no scenario \($0): only rules for all histories were judged on it"
      }
  }
}
