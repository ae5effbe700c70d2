internal import ABIChecker

/// A report for issues, pull requests and job summaries: GitHub's Markdown.
public struct MarkdownReport: Sendable {
  public var report: Report

  public init(_ report: Report) { self.report = report }

  public var text: String { markup.text }

  private var markup: Markdown {
    let digest = Digest(report)
    var parts: [Markdown] = ["# kvmclock: \(digest.headline)"]
    let sentence = digest.sentence
    parts.append("\(sentence.prefix(1).uppercased())\(String(sentence.dropFirst()))")
    if let interruption = digest.interruption { parts.append("**\(interruption)**") }
    parts.append(Markdown.table(["", ""], report.facts.map { ["\($0.0)", "\($0.1)"] }))
    let broken = digest.failed
    if !broken.isEmpty {
      parts.append("## Broken")
      parts += broken.map(proof)
    }
    parts += section("Broken, but excused", digest.excused, excused)
    parts += section("Inconclusive", digest.groups(.inconclusive), group)
    parts += section("Not tested", digest.groups(.notTested), group)
    parts += section("Observed", digest.verdicts(.observed)) {
      "- \(Markdown.code($0.rule)): \($0.outcome.summary)"
    }
    parts += bench
    parts.append("## All rules\n\n\(topics(digest))")
    let notes = (report.outdated + report.notes).map { "- \($0)" as Markdown }
    if !notes.isEmpty { parts.append("## Notes\n\n\(notes.joined(separator: "\n"))") }
    return parts.joined(separator: "\n\n") + "\n"
  }

  private func section<Item>(
    _ title: String, _ items: [Item], _ line: (Item) -> Markdown
  ) -> [Markdown] {
    items.isEmpty ? [] : ["## \(title)\n\n\(items.map(line).joined(separator: "\n"))"]
  }

  private func proof(_ verdict: Verdict) -> Markdown {
    let lines = report.proof(verdict).map { name, text -> Markdown in
      let title = name.prefix(1).uppercased() + name.dropFirst()
      switch name {
      case "rule": return "> \(text)\n"
      case "seen": return "  *\(title)*: **\(text)**"
      case "source", "known": return "- *\(title)*: \(Markdown.linked(text))"
      case "where": return "  *\(title)*: \(text)"
      case "": return "- \(text)"
      default: return "- *\(title)*: \(text)"
      }
    }
    return (["### \(verdict.rule)\n"] + lines).joined(separator: "\n")
  }

  private func excused(_ verdict: Verdict) -> Markdown {
    "- \(Markdown.code(verdict.rule)): \(verdict.status.rawValue); \(Markdown.linked(verdict.excuse ?? ""))"
  }

  private func group(_ group: Digest.Group) -> Markdown {
    "- \(group.reason): \(group.rules.map(Markdown.code).joined(separator: ", "))"
  }

  private func topics(_ digest: Digest) -> Markdown {
    let statuses = Status.allCases
    var rows = digest.topics.map { topic -> [Markdown] in
      ["\(topic.title)"] + statuses.map { topic.count($0) == 0 ? "" : "\(topic.count($0))" }
    }
    rows.append(["**All**"] + statuses.map { "**\(report.count($0))**" })
    return Markdown.table([""] + statuses.map { "\($0.label)" }, rows, columns: "--:")
  }
}
