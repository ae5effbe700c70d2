internal import ABIChecker

/// A report for issues, pull requests and job summaries: GitHub's Markdown.
public struct MarkdownReport: Sendable {
  public var report: Report

  private static let shown = 3

  public init(_ report: Report) { self.report = report }

  public var text: String {
    let digest = Digest(report)
    var parts = ["# kvmclock: \(Self.escape(digest.headline))"]
    let sentence = digest.sentence
    parts.append(sentence.prefix(1).uppercased() + Self.escape(String(sentence.dropFirst())))
    if let interruption = digest.interruption { parts.append("**\(Self.escape(interruption))**") }
    parts.append(table(["", ""], report.facts.map { [$0.0, Self.escape($0.1)] }))
    if !digest.failed.isEmpty {
      parts.append("## Broken")
      parts += digest.failed.map(proof)
    }
    parts += section("Broken, but excused", digest.excused) {
      "- `\($0.rule)`: \($0.status.rawValue); \(Self.escape($0.excuse ?? ""))"
    }
    parts += section("Inconclusive", digest.groups(.inconclusive), group)
    parts += section("Not tested", digest.groups(.notTested), group)
    parts += section("Observed", digest.verdicts(.observed)) {
      "- `\($0.rule)`: \(Self.escape($0.outcome.summary))"
    }
    parts += bench
    parts.append("## All rules\n\n\(topics(digest))")
    let notes = (report.outdated + report.notes).map { "- \(Self.escape($0))" }
    if !notes.isEmpty { parts.append("## Notes\n\n\(notes.joined(separator: "\n"))") }
    return parts.joined(separator: "\n\n") + "\n"
  }

  private func section<Item>(
    _ title: String, _ items: [Item], _ line: (Item) -> String
  ) -> [String] {
    items.isEmpty ? [] : ["## \(title)\n\n\(items.map(line).joined(separator: "\n"))"]
  }

  private func proof(_ verdict: Verdict) -> String {
    guard case .broken(let violations) = verdict.outcome else { return "" }
    var lines = ["### \(verdict.rule)", ""]
    if let rule = Rule.named(verdict.rule) {
      lines += ["> \(Self.escape(rule.statement))", ""]
      lines += ["- *Source*: \(Self.escape(rule.source))"]
      lines += ["- *Tested*: \(Self.escape(rule.method))"]
    }
    for violation in violations.prefix(Self.shown) {
      lines.append("- *Expected*: \(Self.escape(violation.expected))")
      lines.append("  *Seen*: **\(Self.escape(violation.seen))**")
      lines.append("  *Where*: \(Self.escape(report.place(of: violation, in: verdict)))")
    }
    if violations.count > Self.shown {
      lines.append("- and \(violations.count - Self.shown) more violations")
    }
    if let excuse = verdict.excuse {
      lines.append("- *Excuse* (\(verdict.status.rawValue)): \(Self.escape(excuse))")
    }
    if let command = report.repeatCommand(verdict) {
      lines.append("- *Repeat*: \(Self.escape(command))")
    }
    return lines.joined(separator: "\n")
  }

  private func group(_ group: Digest.Group) -> String {
    let rules = group.rules.map { "`\($0)`" }.joined(separator: ", ")
    return "- \(Self.escape(group.reason)): \(rules)"
  }

  private func topics(_ digest: Digest) -> String {
    let statuses = Status.allCases
    var rows = digest.topics.map { topic in
      [Self.escape(topic.title)]
        + statuses.map { topic.count($0) == 0 ? "" : "\(topic.count($0))" }
    }
    rows.append(["**All**"] + statuses.map { "**\(report.count($0))**" })
    return table([""] + statuses.map(\.rawValue), rows)
  }

  private func table(_ heads: [String], _ rows: [[String]]) -> String {
    let line = { (cells: [String]) in "| \(cells.joined(separator: " | ")) |" }
    let rule = line(heads.indices.map { $0 == 0 ? "---" : heads.count > 2 ? "--:" : "---" })
    return ([line(heads), rule] + rows.map(line)).joined(separator: "\n")
  }

  /// What Markdown and GitHub would take for their own, and mentions of people and issues.
  static func escape(_ text: String) -> String {
    var escaped = ""
    for character in Plain.oneLine(text) {
      switch character {
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "&": escaped += "&amp;"
      case "@": escaped += "&#64;"
      case "*", "_", "[", "]", "|", "`", "\\", "#", "~", "$":
        escaped.append("\\")
        escaped.append(character)
      default: escaped.append(character)
      }
    }
    return escaped
  }
}
