internal import ABIChecker

/// A report for people.
public struct TextReport: Sendable {
  public var report: Report
  public var coloured: Bool
  /// Columns to wrap lines at; nil keeps them whole.
  public var width: Int?
  public var showsTimings: Bool

  private static let shown = 3

  public init(
    _ report: Report, coloured: Bool = false, width: Int? = nil, showsTimings: Bool = false
  ) {
    self.report = report
    self.coloured = coloured
    self.width = width
    self.showsTimings = showsTimings
  }

  public var text: String {
    var lines = [report.headline]
    let longest = report.verdicts.map(\.rule.count).max() ?? 0
    for verdict in report.verdicts {
      lines += ruleLine(verdict, idWidth: longest)
      if case .broken(let violations) = verdict.outcome, verdict.known == nil || report.strict {
        lines += block(verdict, violations)
      }
    }
    if showsTimings { lines += report.timingLines.map { Plain.oneLine($0) } }
    lines += report.outdated.map { "note: \($0)" }
    lines += report.notes.map { "note: \(Plain.oneLine($0))" }
    lines += closing
    return lines.joined(separator: "\n") + "\n"
  }

  private func ruleLine(_ verdict: Verdict, idWidth: Int) -> [String] {
    let status = Status(verdict)
    let statusWidth = Status.inconclusive.rawValue.count
    let id = Plain.pad(verdict.rule, to: idWidth)
    let indent = statusWidth + idWidth + 4
    let room = width.map { max(30, $0 - indent) }
    let said = Plain.wrap(Plain.oneLine(summary(of: verdict)), width: room)
    let word = paint(Plain.pad(status.rawValue, to: statusWidth), status)
    return ["\(word)  \(id)  \(said[0])"] + said.dropFirst().map { spaces(indent) + $0 }
  }

  /// A known deviation is no news: why, and what was seen, on one line.
  private func summary(of verdict: Verdict) -> String {
    guard case .broken(let violations) = verdict.outcome, let known = verdict.known, !report.strict
    else { return verdict.outcome.summary }
    let seen = violations.first.map { "; seen: \($0.seen)" } ?? ""
    return "\(known.range): \(known.cause) (\(known.source))\(seen)"
  }

  private func block(_ verdict: Verdict, _ violations: [Violation]) -> [String] {
    var lines: [String] = []
    if let rule = Rule.named(verdict.rule) {
      lines += field("rule", rule.statement) + field("source", rule.source)
    }
    for violation in violations.prefix(Self.shown) {
      lines += field("expected", violation.expected) + field("seen", violation.seen)
      lines += field("where", report.place(of: violation, in: verdict))
    }
    if violations.count > Self.shown {
      lines += field("", "and \(violations.count - Self.shown) more violations")
    }
    if let known = verdict.known {
      lines += field("known", "\(known.range): \(known.cause) (\(known.source))")
    }
    if let command = report.repeatCommand(verdict) { lines += field("repeat", command) }
    return lines
  }

  private func field(_ name: String, _ text: String) -> [String] {
    let label = Plain.pad(name.isEmpty ? "" : "\(name):", to: 10)
    let room = width.map { max(30, $0 - 14) }
    let wrapped = Plain.wrap(Plain.oneLine(text), width: room)
    return ["    \(label)\(wrapped[0])"] + wrapped.dropFirst().map { spaces(14) + $0 }
  }

  private var closing: [String] {
    var lines: [String] = []
    if let interruption = report.interruption {
      let left = report.planned - report.verdicts.count
      lines.append(
        "interrupted by \(interruption): \(counted(left, "rule")) of \(report.planned) not judged")
    }
    if report.isEmpty {
      lines.append(
        paint("NOTHING WAS TESTED: this run says nothing about the clock of this host.", .broken))
    }
    return lines + [summary]
  }

  private var summary: String {
    let counts = [
      "\(report.count(.holds)) hold", "\(report.count(.observed)) observed",
      "\(report.count(.broken)) broken",
      "\(report.count(.known)) known", "\(report.count(.notTested)) not tested",
      "\(report.count(.inconclusive)) inconclusive",
    ]
    var parts = ["\(counted(report.verdicts.count, "rule")): \(counts.joined(separator: ", "))"]
    if let nanoseconds = report.nanoseconds {
      parts.append(report.retries == 1 ? "1 retry" : "\(report.retries) retries")
      parts.append(Report.seconds(nanoseconds))
    }
    return parts.joined(separator: "; ")
  }

  private func counted(_ number: Int, _ noun: String) -> String {
    "\(number) \(noun)\(number == 1 ? "" : "s")"
  }

  private func spaces(_ count: Int) -> String { String(repeating: " ", count: count) }

  private func paint(_ text: String, _ status: Status) -> String {
    guard coloured else { return text }
    let code =
      switch status {
      case .holds: "32"
      case .observed: "36"
      case .broken: "1;31"
      case .known: "33"
      case .notTested: "2"
      case .inconclusive: "1;33"
      }
    return "\u{1b}[\(code)m\(text)\u{1b}[0m"
  }
}
