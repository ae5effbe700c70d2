internal import ABIChecker

/// A report for people: at first what they have to know, and each rule where they ask for it.
public struct TextReport: Sendable {
  public var report: Report
  public var coloured: Bool
  /// Columns to wrap lines at; nil keeps them whole.
  public var width: Int?
  public var style: ReportStyle

  /// How many violations of one rule: one tells a person, and a few tell the one who looks closer.
  private var shown: Int { listsRules ? 3 : 1 }
  private static let statusWidth = Status.inconclusive.rawValue.count

  public init(
    _ report: Report, coloured: Bool = false, width: Int? = nil,
    style: ReportStyle = ReportStyle()
  ) {
    self.report = report
    self.coloured = coloured
    self.width = width
    self.style = style
  }

  public var text: String {
    let digest = Digest(report)
    var lines: [Line] = wrapped(report.headline) + answer(digest)
    lines += style.figures.flatMap { figure in wrapped(figure) }
    lines += listsRules ? rules : exceptions(digest)
    if style.showsTimings { lines += report.timingLines.map { "\($0)" } }
    lines += (report.outdated + report.notes).map { "note: \($0)" }
    if let interruption = digest.interruption { lines.append("\(interruption)") }
    if !listsRules {
      lines.append("--verbose shows each rule, --html FILE has pictures; `kvmclock explain RULE`")
    }
    return (lines + wrapped(summary(digest))).joined(separator: "\n").text + "\n"
  }

  /// A handful of rules was asked for by name: each is of interest.
  private var listsRules: Bool {
    style.isVerbose || (report.verdicts.count <= 30 && style.figures.isEmpty)
  }

  private func answer(_ digest: Digest) -> [Line] {
    let status: Status =
      switch digest.answer {
      case .sound: .holds
      case .broken, .nothing: .broken
      case .undecided: .inconclusive
      }
    let lines = wrapped("\(digest.headline): \(digest.sentence)")
    let rest = String(lines[0].text.dropFirst(digest.headline.count))
    return ["\(paint(digest.headline, status))\(rest)"] + lines.dropFirst()
  }

  private func wrapped(_ text: String) -> [Line] {
    let lines = Plain.wrap(text, width: width)
    return lines.prefix(1).map { "\($0)" }
      + lines.dropFirst().flatMap {
        Plain.wrap($0, width: width.map { $0 - 2 }).map { "  \($0)" }
      }
  }

  private func summary(_ digest: Digest) -> String {
    guard let nanoseconds = report.nanoseconds else { return digest.counts }
    let retries = Digest.counted(report.retries, "retry", "retries")
    return "\(digest.counts); \(retries); \(Report.seconds(nanoseconds))"
  }
}

/// What is shown, apart from the report itself.
public struct ReportStyle: Hashable, Sendable {
  public var showsTimings: Bool
  /// Each rule, not only what calls for attention.
  public var isVerbose: Bool
  /// Lines for people that take the place of the counts by topic.
  public var figures: [String]
  /// Whether topics are subtests in KTAP.
  public var hasSubtests: Bool

  public init(
    showsTimings: Bool = false, isVerbose: Bool = false, figures: [String] = [],
    hasSubtests: Bool = false
  ) {
    self.showsTimings = showsTimings
    self.isVerbose = isVerbose
    self.figures = figures
    self.hasSubtests = hasSubtests
  }
}

// Each rule.
extension TextReport {
  private var rules: [Line] {
    let longest = report.verdicts.map(\.rule.count).max() ?? 0
    return report.verdicts.flatMap { verdict in
      ruleLine(verdict, idWidth: longest) + proof(verdict)
    }
  }

  private func ruleLine(_ verdict: Verdict, idWidth: Int) -> [Line] {
    let id = Plain.pad(verdict.rule, to: idWidth)
    let indent = Self.statusWidth + idWidth + 4
    let room = width.map { max(30, $0 - indent) }
    let said = Plain.wrap(Plain.oneLine(summary(of: verdict)), width: room)
    return ["\(word(verdict.status))  \(id)  \(said[0])"]
      + said.dropFirst().map { "\(spaces(indent))\($0)" }
  }

  /// A known deviation is no news: why, and what was seen, on one line.
  private func summary(of verdict: Verdict) -> String {
    guard case .broken(let violations) = verdict.outcome, let excuse = verdict.excuse,
      !report.failing.contains(verdict.status)
    else { return verdict.outcome.summary }
    let seen = violations.first.map { "; seen: \($0.seen)" } ?? ""
    return excuse + seen
  }

  private func proof(_ verdict: Verdict) -> [Line] {
    guard report.failing.contains(verdict.status) else { return [] }
    return report.proof(verdict, most: shown).flatMap(field)
  }

  private func field(_ name: String, _ text: String) -> [Line] {
    let label = Plain.pad(name.isEmpty ? "" : "\(name):", to: 10)
    let room = width.map { max(30, $0 - 14) }
    let wrapped = Plain.wrap(Plain.oneLine(text), width: room)
    return ["    \(label)\(wrapped[0])"]
      + wrapped.dropFirst().map { "\(spaces(14))\($0)" }
  }
}

// What calls for attention.
extension TextReport {
  /// So many findings, and so many reasons why rules were not tested: a screen has room for them.
  private static let findings = 8
  private static let reasons = 3
  private static let names = 3

  private func exceptions(_ digest: Digest) -> [Line] {
    let findings = digest.findings
    var lines = findings.prefix(Self.findings).enumerated().flatMap { index, finding in
      index == 0 ? self.finding(finding) : alsoBroken(finding)
    }
    if findings.count > Self.findings {
      lines.append("\(spaces(14))and \(findings.count - Self.findings) more findings: --verbose")
    }
    for status in Status.excused where !report.failing.contains(status) {
      let rules = digest.verdicts(status).map(\.rule)
      if !rules.isEmpty {
        lines.append(line(status, Digest.counted(rules.count, "rule"), list(rules, most: 4)))
      }
    }
    for status in [Status.inconclusive, .notTested] {
      let groups = digest.groups(status)
      lines += groups.prefix(Self.reasons).map { line(status, $0.name, $0.reason) }
      let rest = groups.dropFirst(Self.reasons)
      if !rest.isEmpty {
        let rules = Digest.counted(rest.reduce(0) { $0 + $1.rules.count }, "more rule")
        lines.append(
          line(status, rules, "for \(Digest.counted(rest.count, "other reason"))"))
      }
    }
    return lines
  }

  /// What is wrong in one sentence, the rules that it breaks, the proof of the one that shows it best, and how to see it again.
  private func finding(_ finding: Finding) -> [Line] {
    let first = finding.verdicts[0]
    let rules = finding.verdicts.map(\.rule)
    let count = rules.count == 1 ? "" : " and \(Digest.counted(rules.count - 1, "more rule"))"
    let said = finding.step == nil ? first.rule : "\(finding.sentence)."
    var lines = ["\(word(first.status))  \(said)"] as [Line]
    if finding.step != nil || rules.count > 1 { lines += field("breaks", "\(first.rule)\(count)") }
    if rules.count > 1 { lines += field("", list(Array(rules.dropFirst()), most: 6)) }
    if let rule = Rule.named(first.rule) { lines += field("rule", rule.statement) }
    lines += field("expected", finding.violation.expected)
    lines += field("seen", finding.violation.seen)
    lines += field("where", report.place(of: finding.violation, in: first))
    if let again = report.repeatCommand(first) { lines += field("repeat", again) }
    return lines
  }

  /// Another finding, in three lines.
  private func alsoBroken(_ finding: Finding) -> [Line] {
    let rules = finding.verdicts.map(\.rule)
    let said = "\(finding.sentence) (event \(finding.event) of \(finding.scenario))"
    var lines: [Line] = ["\(line(finding.verdicts[0].status, "", said))"]
    if finding.step == nil { lines += field("expected", finding.violation.expected) }
    if finding.step != nil || rules.count > 1 {
      lines += field("breaks", list(rules, most: Self.names))
    }
    if let again = report.repeatCommand(finding.verdicts[0]) { lines += field("repeat", again) }
    return lines
  }

  /// "A, B, C and 4 more".
  private func list(_ names: [String], most: Int) -> String {
    names.prefix(most).joined(separator: ", ")
      + (names.count > most ? " and \(names.count - most) more" : "")
  }

  /// One line whatever it says: the whole of it is there with --verbose.
  private func line(_ status: Status, _ name: String, _ text: String) -> Line {
    let said = Plain.oneLine(name.isEmpty ? text : "\(name): \(text)")
    let room = width.map { $0 - Self.statusWidth - 2 } ?? said.count
    return "\(word(status))  \(cut(said, to: room))"
  }

  private func cut(_ text: String, to width: Int) -> String {
    text.count <= width ? text : "\(text.prefix(max(1, width - 1)))…"
  }
}

extension TextReport {
  private func spaces(_ count: Int) -> String { String(repeating: " ", count: max(0, count)) }

  private func word(_ status: Status) -> Line {
    paint(Plain.pad(status.label, to: Self.statusWidth), status)
  }

  private func paint(_ text: String, _ status: Status) -> Line {
    guard coloured else { return "\(text)" }
    let code =
      switch status {
      case .holds: "32"
      case .observed: "36"
      case .broken: "1;31"
      case .known, .differs, .notOwed: "33"
      case .notTested: "2"
      case .inconclusive: "1;33"
      }
    return "\u{1b}[\(code)m\(text)\u{1b}[0m"
  }
}
