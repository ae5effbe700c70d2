internal import FoundationEssentials

extension Comparison {
  /// The forms that a comparison comes in.
  public static let formats: [ReportFormat] = [.text, .json, .markdown, .html]

  public func render(_ format: ReportFormat, width: Int? = nil) -> String {
    switch format {
    case .json: json
    case .markdown: markdown
    case .html: html
    default: text(width: width)
    }
  }
}

// Text.
extension Comparison {
  private static let mostColumns = 26

  private func text(width: Int?) -> String {
    var lines: [String] = []
    for change in [Row.Change.worse, .better, .otherwise] {
      for row in rows(change) {
        let seen = change == .worse ? seen(row).map { "; seen: \($0)" } ?? "" : ""
        let label = Plain.pad(change.rawValue, to: 9)
        let room = width.map { $0 - 13 }
        let said = Plain.wrap("\(Plain.oneLine(row.rule)): \(sentence(row))\(seen)", width: room)
        lines.append("\(label)  \(said[0])")
        lines += said.dropFirst().map { "             \($0)" }
      }
    }
    if !lines.isEmpty, reports.count > 2 { lines += [""] + table }
    lines += legend
    return (["\(headline)."] + lines + [summary]).joined(separator: "\n") + "\n"
  }

  /// The rules that differ, with a column for each group of reports.
  private var table: [String] {
    let differing = rows.filter { $0.change != .alike }
    let longest = differing.map(\.rule.count).max() ?? 0
    let columns = groups.prefix(Self.mostColumns)
    let head = columns.indices.map { Self.letter($0) }.joined(separator: " ")
    var lines = ["\(Plain.pad("", to: longest))  \(head)"]
    for row in differing {
      let cells = columns.map { Self.sign(row.words[$0.members[0]]) }.joined(separator: " ")
      lines.append("\(Plain.pad(Plain.oneLine(row.rule), to: longest))  \(cells)")
    }
    return lines + ["+ holds, o observed, X BROKEN, k known, - not tested, ? inconclusive", ""]
  }

  /// Which reports a column stands for.
  private var legend: [String] {
    var lines = groups.prefix(Self.mostColumns).enumerated().map { index, group in
      let count = group.members.count == 1 ? "" : "\(group.members.count) reports: "
      return "\(Self.letter(index))  \(count)\(named(group.members)) (\(place(group.members[0])))"
    }
    if groups.count > Self.mostColumns {
      lines.append("and \(groups.count - Self.mostColumns) more groups: --html FILE shows all")
    }
    return lines
  }

  static func letter(_ index: Int) -> String {
    String(Character(Unicode.Scalar(UInt8(ascii: "A") + UInt8(index % 26))))
  }

  private static func sign(_ word: Word?) -> String {
    switch word {
    case .holds: "+"
    case .observed: "o"
    case .broken: "X"
    case .known: "k"
    case .notTested: "-"
    case .inconclusive: "?"
    case nil: " "
    }
  }
}

// Markdown.
extension Comparison {
  private var markdown: String {
    var parts = [
      "# \(MarkdownReport.escape(headline))", MarkdownReport.escape(summary) + ".",
    ]
    let heads: [(Row.Change, String)] = [
      (.worse, "Worse"), (.better, "Better"), (.otherwise, "Otherwise different"),
    ]
    for (change, title) in heads where count(change) > 0 {
      let lines = rows(change).map { row in
        let seen = change == .worse ? seen(row).map { "; seen: \($0)" } ?? "" : ""
        return "- `\(Plain.oneLine(row.rule))`: \(MarkdownReport.escape(sentence(row) + seen))"
      }
      parts.append("## \(title)\n\n\(lines.joined(separator: "\n"))")
    }
    let columns = groups.prefix(Self.mostColumns)
    let differing = rows.filter { $0.change != .alike }
    if !differing.isEmpty {
      let rule = "|---" + String(repeating: "|:-:", count: columns.count) + "|"
      let lines = differing.map { row in
        "| `\(Plain.oneLine(row.rule))` | "
          + columns.map { Self.label(row.words[$0.members[0]]) }.joined(separator: " | ") + " |"
      }
      let head = "| | \(columns.indices.map { Self.letter($0) }.joined(separator: " | ")) |"
      parts.append(([head, rule] + lines).joined(separator: "\n"))
    }
    parts.append(legend.map { "- \(MarkdownReport.escape($0))" }.joined(separator: "\n"))
    return parts.joined(separator: "\n\n") + "\n"
  }
}

// JSON: docs/comparison.schema.json describes it.
extension Comparison {
  private struct Document: Encodable {
    var format = "kvmclock-comparison"
    var version = 1
    var exitStatus: Int32
    var reports: [Place]
    var rules: [Line]
    var groups: [[String]]
  }

  private struct Place: Encodable {
    var name: String
    var path: String
    var kvmclock: String
    var hostname: String?
    var kernel: String
    var backend: String?
    var clocksource: String?
    var tscKHz: UInt32?
    var counts: ReportDocument.Counts
  }

  private struct Line: Encodable {
    var rule: String
    var change: Row.Change
    var usual: String
    /// The reports that have each verdict, by name, where they differ.
    var verdicts: [String: [String]]
    var seen: String?
  }

  private var json: String {
    let document = Document(
      exitStatus: exitCode,
      reports: reports.enumerated().map { index, report in
        Place(
          name: names[index], path: report.path, kvmclock: report.kvmclock,
          hostname: report.hostname, kernel: report.host.kernel, backend: report.host.backend,
          clocksource: report.host.clocksource, tscKHz: report.host.tscKHz, counts: report.counts)
      },
      rules: rows.map { row in
        let groups = row.change == .alike ? [] : verdicts(row)
        return Line(
          rule: row.rule, change: row.change, usual: row.usual?.rawValue ?? "not judged",
          verdicts: Dictionary(
            uniqueKeysWithValues: groups.map { group in
              (group.word?.rawValue ?? "not judged", group.members.map { names[$0] })
            }), seen: row.change == .worse ? seen(row) : nil)
      }, groups: groups.map { $0.members.map { names[$0] } })
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
    guard let data = try? encoder.encode(document) else {
      preconditionFailure("a comparison holds nothing that JSON has no word for")
    }
    return String(decoding: data, as: UTF8.self) + "\n"
  }
}
