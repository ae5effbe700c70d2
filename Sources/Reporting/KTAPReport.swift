internal import ABIChecker

/// A report for machines: KTAP version 1, as Documentation/dev-tools/ktap.rst in the kernel has it.
///
/// Both of its common readers were kept in mind. `kunit.py` knows the directive SKIP, `prove` SKIP and TODO; both
/// take the others for a part of the description and look at "ok" or "not ok" alone.
public struct KTAPReport: Sendable {
  public var report: Report
  public var showsTimings: Bool

  private static let shown = 3

  public init(_ report: Report, showsTimings: Bool = false) {
    self.report = report
    self.showsTimings = showsTimings
  }

  public var text: String {
    var lines = ["KTAP version 1", "1..\(report.planned)", "# \(escape(report.headline))"]
    for (index, verdict) in report.verdicts.enumerated() {
      lines += diagnostics(verdict)
      lines.append(result(verdict, number: index + 1))
    }
    if showsTimings { lines += report.timingLines.map { "# \(escape($0))" } }
    lines += report.outdated.map { "# note: \(escape($0))" }
    lines += report.notes.map { "# note: \(escape($0))" }
    if report.isEmpty { lines.append("# NOTHING WAS TESTED") }
    // The plan is not met then, which is an error to every reader; `prove` also says why.
    if let interruption = report.interruption {
      lines.append("Bail out! interrupted by \(escape(interruption))")
    }
    if let reason = report.noGuestRuns {
      lines.append("Bail out! no guest runs: \(escape(reason))")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private func result(_ verdict: Verdict, number: Int) -> String {
    let test = "\(number) \(escape(verdict.rule))"
    switch verdict.outcome {
    case .holds, .observed: return "ok \(test)"
    case .broken:
      guard let known = verdict.known else { return "not ok \(test)" }
      let word = report.strict ? "not ok" : "ok"
      return "\(word) \(test) # XFAIL \(escape(known.cause))"
    case .notTested(let reason): return "ok \(test) # SKIP \(escape(reason))"
    // Not TIMEOUT, which goes with "not ok": noise on the host proves no fault of its clock. The exit code still
    // tells this case apart.
    case .inconclusive(let reason): return "ok \(test) # SKIP inconclusive: \(escape(reason))"
    }
  }

  /// In KTAP the lines about a test come before its result.
  private func diagnostics(_ verdict: Verdict) -> [String] {
    if case .observed(let value) = verdict.outcome { return ["# observed: \(escape(value))"] }
    guard case .broken(let violations) = verdict.outcome else { return [] }
    var lines: [String] = []
    if let rule = Rule.named(verdict.rule) {
      lines += ["rule: \(rule.statement)", "source: \(rule.source)"]
    }
    for violation in violations.prefix(Self.shown) {
      lines += ["expected: \(violation.expected)", "seen: \(violation.seen)"]
      lines.append("where: \(report.place(of: violation, in: verdict))")
    }
    if violations.count > Self.shown {
      lines.append("and \(violations.count - Self.shown) more violations")
    }
    if let known = verdict.known { lines.append("known: \(known.range); \(known.source)") }
    if let command = report.repeatCommand(verdict) { lines.append("repeat: \(command)") }
    return lines.map { "# \(escape($0))" }
  }

  /// A `#` would begin a directive, and a new line a new result.
  private func escape(_ text: String) -> String {
    var escaped = ""
    for character in Plain.oneLine(text) {
      if character == "#" || character == "\\" { escaped.append("\\") }
      escaped.append(character)
    }
    return escaped
  }
}
