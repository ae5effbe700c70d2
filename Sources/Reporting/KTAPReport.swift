internal import ABIChecker

/// A report for machines: KTAP version 1, as Documentation/dev-tools/ktap.rst in the kernel has it.
///
/// Both of its common readers were kept in mind. `kunit.py` knows the directive SKIP, `prove` SKIP and TODO; both
/// take the others for a part of the description and look at "ok" or "not ok" alone.
public struct KTAPReport: Sendable {
  public var report: Report
  public var showsTimings: Bool

  public init(_ report: Report, showsTimings: Bool = false) {
    self.report = report
    self.showsTimings = showsTimings
  }

  public var text: String {
    var lines: [Line] = ["KTAP version 1", "1..\(report.planned)", "# \(report.headline)"]
    for (index, verdict) in report.verdicts.enumerated() {
      lines += diagnostics(verdict)
      lines.append(result(verdict, number: index + 1))
    }
    if showsTimings { lines += report.timingLines.map { "# \($0)" } }
    lines += (report.outdated + report.notes).map { "# note: \($0)" }
    if report.isEmpty { lines.append("# NOTHING WAS TESTED") }
    // The plan is not met then, which is an error to every reader; `prove` also says why.
    if let interruption = report.interruption {
      lines.append("Bail out! interrupted by \(interruption)")
    }
    if let reason = report.noGuestRuns { lines.append("Bail out! no guest runs: \(reason)") }
    return lines.joined(separator: "\n").text + "\n"
  }

  private func result(_ verdict: Verdict, number: Int) -> Line {
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

  /// In KTAP the lines about a test come before its result.
  private func diagnostics(_ verdict: Verdict) -> [Line] {
    if case .observed(let value) = verdict.outcome { return ["# observed: \(value)"] }
    return report.proof(verdict).map { name, text in
      name.isEmpty ? "# \(text)" : "# \(name): \(text)"
    }
  }

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
