import ABIChecker
import ArgumentParser
import Reporting

/// Judges saved histories.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Judge histories that `run --history` kept, on any machine.",
    discussion: """
      A truncated file is judged up to the truncation: it can prove a rule broken, but not that it \
      holds. A file that cannot be read or is no history is reported, and the others are judged.
      """)

  @Argument(
    help: ArgumentHelp("Histories, or folders that hold them.", valueName: "history"),
    completion: .file())
  var histories: [String]

  @OptionGroup var options: ReportOptions

  func run() throws {
    var saved: [SavedHistory] = []
    var failure: Failure?
    for path in histories.flatMap(Self.files) {
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
    var reports: [Report] = []
    for host in hosts {
      reports.append(try report(saved.filter { $0.history.header.host == host }))
    }
    for index in reports.indices { for table in tables { reports[index].include(table) } }
    let isComplete = options.deliver(reports, style: ReportStyle(isVerbose: options.verbose))
    let codes = reports.map(options.exitCode)
    if codes.contains(1) { throw ExitCode(1) }
    if !isComplete { throw ExitCode(74) }
    if let failure { throw ExitCode(failure.code) }
    throw ExitCode(codes.max() ?? 0)
  }

  /// What the histories of one host say.
  private func report(_ saved: [SavedHistory]) throws(Failure) -> Report {
    let timelines = saved.map { Timeline($0.judged) }
    let scenarios = Set(saved.map(\.history.header.scenario))
    let verdicts = Rule.all.compactMap { rule -> Verdict? in
      let verdict = rule.verdict(on: timelines)
      let isExercised = scenarios.contains { rule.isExercised(by: $0) }
      return isExercised || verdict.outcome.isBroken ? verdict : nil
    }
    let origins = Self.origins(of: saved)
    let isOneRun = origins.count == saved.count && Set(origins.values).count == 1
    var report = Report(
      version: Kvmclock.version, host: saved[0].history.header.host,
      seed: isOneRun ? origins.values.first?.seed : nil, verdicts: verdicts)
    report.origins = origins
    if isOneRun, let run = saved[0].history.header.run {
      report.hostname = run.hostname
      report.date = run.date
    }
    report.files = Dictionary(grouping: saved, by: \.history.header.scenario)
      .mapValues { $0.map(\.path) }
    report.notes = saved.compactMap(\.truncated) + unknown(scenarios)
    let runs = Set(saved.compactMap(\.history.header.run))
    if runs.count > 1 {
      report.notes.append("these are histories of \(runs.count) runs, judged together")
    }
    report.histories = saved.map(\.history)
    return try options.settled(report)
  }

  /// How each history was recorded, by its name; no seed repeats what a VMM or a guest went through.
  private static func origins(of saved: [SavedHistory]) -> [String: Origin] {
    var origins: [String: Origin] = [:]
    var ambiguous: Set<String> = []
    for header in saved.map(\.history.header)
    where ScenarioName(rawValue: header.scenario).map({ !$0.isOfVMMs }) ?? false {
      let origin = Origin(seed: header.seed, options: header.run?.options ?? "")
      if let other = origins.updateValue(origin, forKey: header.name), other != origin {
        ambiguous.insert(header.name)
      }
    }
    for name in ambiguous { origins[name] = nil }
    return origins
  }

  /// The histories in a folder, or the file itself.
  private static func files(_ path: String) -> [String] {
    let names = HistoryFile.histories(in: path)
    let folder = path.hasSuffix("/") ? path : path + "/"
    return names.isEmpty ? [path] : names.map { folder + $0 }
  }

  private func unknown(_ scenarios: Set<String>) -> [String] {
    scenarios.filter { ScenarioName(rawValue: $0) == nil && $0 != Header.insideScenario }.sorted()
      .map {
        "this kvmclock has no scenario \($0): only rules for all histories were judged on it"
      }
  }
}
