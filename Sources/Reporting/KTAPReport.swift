internal import ABIChecker

/// A report for machines: KTAP version 1, as Documentation/dev-tools/ktap.rst in the kernel has it.
///
/// Both of its common readers were kept in mind. `kunit.py` knows the directive SKIP, `prove` SKIP and TODO; both
/// take the others for a part of the description and look at "ok" or "not ok" alone.
public struct KTAPReport: Sendable {
  public var report: Report
  public var style: ReportStyle

  public init(_ report: Report, style: ReportStyle = ReportStyle()) {
    self.report = report
    self.style = style
  }

  public var text: String {
    var writer = KTAPWriter(rules: report.verdicts.map(\.rule), style: style)
    return writer.head(report)
      + report.verdicts.map { writer.add($0, in: report) }.joined()
      + writer.tail(report)
  }

  /// What kselftest expects of a test that cannot run at all.
  public static func skipped(_ reason: String) -> String {
    "KTAP version 1\n1..0 # SKIP \(KTAPText.escape(reason))\n"
  }
}

/// Writes KTAP while the verdicts become final: rule by rule, or with topics as subtests topic by topic.
struct KTAPWriter: VerdictWriter {
  private let style: ReportStyle
  /// The topics and how many of their verdicts are still due, where topics are subtests.
  private var topics: [(title: String, due: Int, verdicts: [Verdict])] = []
  private var number = 0

  init(rules: [String], style: ReportStyle) {
    self.style = style
    guard style.hasSubtests else { return }
    for rule in rules {
      let title = Rule.topic(of: rule) ?? "Others"
      if let at = topics.firstIndex(where: { $0.title == title }) {
        topics[at].due += 1
      } else {
        topics.append((title, 1, []))
      }
    }
  }

  func head(_ report: Report) -> String {
    let planned = style.hasSubtests ? topics.count : report.planned
    return text(["KTAP version 1", "1..\(planned)", "# \(report.headline)"])
  }

  mutating func add(_ verdict: Verdict, in report: Report) -> String {
    guard style.hasSubtests else {
      number += 1
      return text(Self.lines(verdict, number, report))
    }
    let title = Rule.topic(of: verdict.rule) ?? "Others"
    guard let at = topics.firstIndex(where: { $0.title == title }) else { return "" }
    topics[at].verdicts.append(verdict)
    topics[at].due -= 1
    return topics[at].due == 0 ? subtest(at, report) : ""
  }

  mutating func tail(_ report: Report) -> String {
    // What an interruption left over.
    var text = topics.indices.filter { topics[$0].due > 0 && !topics[$0].verdicts.isEmpty }
      .map { subtest($0, report) }.joined()
    var lines: [Line] = []
    if style.showsTimings { lines += report.timingLines.map { "# \($0)" } }
    lines += (report.outdated + report.notes).map { "# note: \($0)" }
    if report.isEmpty { lines.append("# NOTHING WAS TESTED") }
    lines.append(totals(report))
    // The plan is not met then, which is an error to every reader; `prove` also says why.
    if let interruption = report.interruption {
      lines.append("Bail out! interrupted by \(interruption)")
    }
    if let reason = report.noGuestRuns { lines.append("Bail out! no guest runs: \(reason)") }
    text += self.text(lines)
    return text
  }

  private mutating func subtest(_ index: Int, _ report: Report) -> String {
    let topic = topics[index]
    number += 1
    var lines: [Line] = [
      "  KTAP version 1", "  # Subtest: \(topic.title)", "  1..\(topic.verdicts.count + topic.due)",
    ]
    for (place, verdict) in topic.verdicts.enumerated() {
      lines += Self.lines(verdict, place + 1, report).map { "  \($0)" }
    }
    let fails = topic.verdicts.contains { report.failing.contains($0.status) }
    let isSkipped = topic.verdicts.allSatisfy { Self.isSkipped($0) }
    let end: Line = isSkipped ? " # SKIP no rule of it could be tested" : ""
    lines.append("\(fails ? "not ok" : "ok") \(number) \(topic.title)\(end)")
    return text(lines)
  }

  /// As kselftest's own tests end.
  private func totals(_ report: Report) -> Line {
    let failed = report.failing.reduce(0) { $0 + report.count($1) }
    let excused = Status.excused.filter { !report.failing.contains($0) }
    let expected = excused.reduce(0) { $0 + report.count($1) }
    let passed = report.count(.holds) + report.count(.observed)
    let skipped = report.count(.notTested) + report.count(.inconclusive)
    return
      "# Totals: pass:\(passed) fail:\(failed) xfail:\(expected) xpass:0 skip:\(skipped) error:0"
  }

  private static func isSkipped(_ verdict: Verdict) -> Bool {
    verdict.status == .notTested || verdict.status == .inconclusive
  }

  /// In KTAP the lines about a test come before its result.
  private static func lines(_ verdict: Verdict, _ number: Int, _ report: Report) -> [Line] {
    diagnostics(verdict, report) + [result(verdict, number, report)]
  }

  private static func result(_ verdict: Verdict, _ number: Int, _ report: Report) -> Line {
    let test: Line = "\(number) \(verdict.rule)"
    switch verdict.outcome {
    case .holds, .observed: return "ok \(test)"
    case .broken:
      guard let excuse = verdict.excuse else { return "not ok \(test)" }
      let word = report.failing.contains(verdict.status) ? "not ok" : "ok"
      return "\(word) \(test) # XFAIL \(verdict.status.rawValue): \(excuse)"
    case .notTested(let reason): return "ok \(test) # SKIP \(reason)"
    // Not TIMEOUT, which goes with "not ok": noise on the host proves no fault of its clock. The exit code still
    // tells this case apart.
    case .inconclusive(let reason): return "ok \(test) # SKIP inconclusive: \(reason)"
    }
  }

  private static func diagnostics(_ verdict: Verdict, _ report: Report) -> [Line] {
    if case .observed(let value) = verdict.outcome { return ["# observed: \(value)"] }
    return report.proof(verdict).map { name, text in
      name.isEmpty ? "# \(text)" : "# \(name): \(text)"
    }
  }

  private func text(_ lines: [Line]) -> String { lines.map { $0.text + "\n" }.joined() }

  private typealias Line = Markup<KTAPText>
}

private enum KTAPText: MarkupLanguage {
  /// A `#` would begin a directive, and a new line a new result.
  static func escape(_ text: String) -> String {
    var escaped = ""
    for character in Plain.oneLine(text) {
      if character == "#" || character == "\\" { escaped.append("\\") }
      escaped.append(character)
    }
    return escaped
  }
}
