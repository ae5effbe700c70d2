internal import ABIChecker

// What policies and faults did, where they ran.
extension HTMLReport {
  static let policyNote = """
    The guests of the discussion of 2015, each on every policy that was on the table: when a guest's write of the MSR \
    may restart time.
    """

  static let faultNote = """
    Each fault was put into a host's clock, or into what the kernel answered: the rules named have to break, and nothing \
    else.
    """

  var policies: [HTML] {
    guard let matrix = report.policies else { return [] }
    let heads = matrix.rows.map { row -> HTML in
      "<th title=\"\(row.summary)\">\(row.host)</th>"
    }
    let lines = matrix.guests.indices.map { guest -> HTML in
      let cells = matrix.rows.map { row -> HTML in
        let outcome = row.outcomes[guest]
        return "<td class=\"\(outcome.kind)\">\(outcome.cell)</td>"
      }
      return """
        <tr><th><code>\(matrix.guests[guest])</code>\
        <small>\(matrix.summaries[guest])</small></th>\(cells.joined())</tr>
        """
    }
    return [
      """
      <div class="scroll"><table class="matrix">
      <tr><th></th>\(heads.joined())</tr>
      \(lines.joined(separator: "\n"))
      </table></div>
      """
    ]
  }

  var faults: [HTML] {
    guard let table = report.faults else { return [] }
    var rows = table.faults.map { fault in
      row(
        fault.isAsExpected, fault.id, fault.meaning,
        caught: fault.expected.filter { fault.broke.contains($0) }, missed: fault.missed,
        more: fault.unexplained.isEmpty
          ? "" : "unexplained: \(fault.unexplained.joined(separator: ", "))")
    }
    rows += table.graded.map { fault in
      row(
        fault.isAsExpected, fault.id, fault.meaning,
        caught: fault.isAsExpected ? fault.rules : [],
        missed: fault.isAsExpected ? [] : fault.rules,
        more: fault.smallest.map { "down to \($0) \(fault.unit)" } ?? "not even the largest")
    }
    rows += table.harness.map { fault in
      row(fault.isAsExpected, fault.id, fault.meaning, caught: [], missed: [], more: fault.says)
    }
    return [
      "<p class=\"note\">\(FaultReport.summary(table))</p>",
      """
      <div class="scroll"><table class="matrix">
      <tr><th>fault</th><th></th><th>rules that break</th></tr>
      \(rows.joined(separator: "\n"))
      </table></div>
      """,
    ]
  }

  private func row(
    _ isGood: Bool, _ id: String, _ meaning: String, caught: [String], missed: [String],
    more: String
  ) -> HTML {
    let status: Status = isGood ? .holds : .broken
    let rules = caught.map { "<code>\($0)</code>" as HTML }
    let absent = missed.map { "<code class=\"missed\">not \($0)</code>" as HTML }
    let rest: [HTML] = more.isEmpty ? [] : ["\(more)"]
    return """
      <tr><th><code>\(id)</code><small>\(meaning)</small></th>\
      <td class="\(status.kind)">\(isGood ? "✓" : "✗")</td>\
      <td class="rules">\((rules + absent + rest).joined(separator: " "))</td></tr>
      """
  }
}

extension PolicyOutcome {
  var kind: String {
    switch self {
    case .works: Status.holds.kind
    case .notShown: Status.notTested.kind
    default: Status.broken.kind
    }
  }
}

extension MarkdownReport {
  /// The tables of policies and faults, where they ran.
  var bench: [Markdown] {
    var parts: [Markdown] = []
    if let matrix = report.policies {
      parts.append("## Policies\n\n\(PolicyReport.table(matrix))")
    }
    if let table = report.faults {
      let rows = table.faults.map { fault -> [Markdown] in
        [
          "\(Markdown.code(fault.id)): \(fault.meaning)",
          fault.isAsExpected ? "caught" : "**MISSED**",
          fault.broke.map(Markdown.code).joined(separator: ", "),
        ]
      }
      let summary = FaultReport.summary(table)
      parts.append(
        "## Faults\n\n\(summary)\n\n\(Markdown.table(["fault", "", "rules that break"], rows))")
    }
    return parts
  }
}
