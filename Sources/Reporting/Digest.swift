internal import ABIChecker

/// What a report comes to: the same for every format that people read.
struct Digest {
  enum Answer {
    case sound, broken, undecided, nothing
  }

  /// A topic's rules.
  struct TopicCount {
    var title: String
    var verdicts: [Verdict]

    func count(_ status: Status) -> Int { verdicts.count { $0.status == status } }

    /// Rules that hold, and observations, which can't fail.
    var good: Int { count(.holds) + count(.observed) }
  }

  /// Rules of one status for one reason.
  struct Group {
    var reason: String
    var rules: [String]

    /// "RATE-RAW and 2 more".
    var name: String {
      rules.count == 1 ? rules[0] : "\(rules[0]) and \(rules.count - 1) more"
    }
  }

  let report: Report

  init(_ report: Report) { self.report = report }

  var answer: Answer {
    if report.isEmpty { return .nothing }
    switch report.exitCode {
    case 0: return .sound
    case 1: return .broken
    default: return .undecided
    }
  }

  /// The answer in a few words, for a headline.
  var headline: String {
    if report.noGuestRuns != nil { return "BROKEN" }
    return switch answer {
    case .sound: "SOUND"
    case .broken: "NOT SOUND"
    case .undecided: "UNDECIDED"
    case .nothing: "NOTHING WAS TESTED"
    }
  }

  /// Whose clock it is, as the subject of a sentence.
  var subject: String {
    if let vmm = report.host.vmm { return "the clock of guests under \(vmm)" }
    if report.host.clock != nil { return "the clock under test" }
    return report.command == "inside" ? "this guest's clock" : "this host's clock"
  }

  /// The answer in one sentence; in a second one, whose clock it is where it is not the host's.
  var sentence: String {
    guard let clock = report.host.clock else { return verdict }
    return "\(verdict) The clock under test is not this host's own: \(clock)."
  }

  private var verdict: String {
    if let reason = report.noGuestRuns { return "no guest runs: \(reason)." }
    let tested = report.verdicts.count - report.count(.notTested)
    let scope =
      report.planned < Rule.ofKVM.count && report.host.vmm == nil
      ? " (of \(Rule.ofKVM.count) in all)" : ""
    switch answer {
    case .nothing: return "this run says nothing about \(subject)."
    case .undecided:
      return "no rule is broken, but \(Self.counted(report.count(.inconclusive), "rule")) of "
        + "\(tested) could not be decided\(scope)."
    case .broken:
      let broken = report.failing.reduce(0) { $0 + report.count($1) }
      return "\(Self.counted(broken, "rule")) of \(tested) tested \(broken == 1 ? "is" : "are") "
        + "broken\(excuses)\(scope)."
    case .sound: return "no rule of \(tested) tested is broken\(excuses)\(scope)."
    }
  }

  /// "; 5 known kernel bugs, 1 difference from Linux".
  private var excuses: String {
    let counts: [(Status, String, String)] = [
      (.known, "known kernel bug", "known kernel bugs"),
      (.differs, "difference from Linux", "differences from Linux"),
      (.notOwed, "rule not owed by this kernel", "rules not owed by this kernel"),
    ]
    let parts = counts.compactMap { status, one, several -> String? in
      let count = report.failing.contains(status) ? 0 : report.count(status)
      return count == 0 ? nil : "\(count) \(count == 1 ? one : several)"
    }
    return parts.isEmpty ? "" : "; \(parts.joined(separator: ", "))"
  }

  /// The topics of the catalogue that have verdicts.
  var topics: [TopicCount] {
    Rule.topics.compactMap { topic in
      let ids = Set(topic.rules.map(\.id))
      let verdicts = report.verdicts.filter { ids.contains($0.rule) }
      return verdicts.isEmpty ? nil : TopicCount(title: topic.title, verdicts: verdicts)
    }
  }

  /// The rules that one reason keeps from being tested, or from being decided; the longest list first.
  func groups(_ status: Status) -> [Group] {
    var groups: [Group] = []
    for verdict in report.verdicts where verdict.status == status {
      let reason = Plain.oneLine(verdict.outcome.summary)
      if let at = groups.firstIndex(where: { $0.reason == reason }) {
        groups[at].rules.append(verdict.rule)
      } else {
        groups.append(Group(reason: reason, rules: [verdict.rule]))
      }
    }
    return groups.enumerated().sorted {
      ($1.element.rules.count, $0.offset) < ($0.element.rules.count, $1.offset)
    }.map(\.element)
  }

  func verdicts(_ status: Status) -> [Verdict] {
    report.verdicts.filter { $0.status == status }
  }

  /// What fails the run, the broken ones first.
  var failed: [Verdict] { report.failing.flatMap(verdicts) }

  /// What is broken and does not fail the run.
  var excused: [Verdict] {
    Status.excused.filter { !report.failing.contains($0) }.flatMap(verdicts)
  }

  /// "140 rules: 107 hold, …".
  var counts: String {
    let counts = [
      "\(report.count(.holds)) hold", "\(report.count(.observed)) observed",
      "\(report.count(.broken)) broken",
      "\(report.count(.known)) known",
      report.count(.differs) > 0 ? "\(report.count(.differs)) differ" : "",
      report.count(.notOwed) > 0 ? "\(report.count(.notOwed)) not owed" : "",
      "\(report.count(.notTested)) not tested",
      "\(report.count(.inconclusive)) inconclusive",
    ].filter { !$0.isEmpty }
    return "\(Self.counted(report.verdicts.count, "rule")): \(counts.joined(separator: ", "))"
  }

  /// What ended the run early, and what that cost.
  var interruption: String? {
    report.interruption.map {
      let left = report.planned - report.verdicts.count
      return "interrupted by \($0): \(Self.counted(left, "rule")) of \(report.planned) not judged"
    }
  }

  static func counted(_ number: Int, _ noun: String, _ plural: String? = nil) -> String {
    "\(number) \(number == 1 ? noun : plural ?? noun + "s")"
  }
}
