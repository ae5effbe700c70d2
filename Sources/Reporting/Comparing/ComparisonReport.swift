internal import ABIChecker

extension Comparison {
  /// The forms that a comparison comes in.
  public static let formats: [ReportFormat] = [.text, .json, .markdown, .html]

  public func render(_ format: ReportFormat, width: Int? = nil) -> String {
    switch format {
    case .json: json
    case .markdown: markdown.text
    case .html: html
    default: text(width: width)
    }
  }
}

// Text.
extension Comparison {
  private static let mostColumns = 26

  private func text(width: Int?) -> String {
    var lines = listed.flatMap { row -> [Line] in
      let label = Plain.pad(row.isBroken ? "BROKEN" : "differs", to: 7)
      let room = width.map { $0 - 11 }
      let said = Plain.wrap(Plain.oneLine("\(row.rule): \(said(row))", limit: .max), width: room)
      return ["\(label)  \(said[0])"] + said.dropFirst().map { "           \($0)" }
    }
    if !listed.isEmpty, reports.count > 2 { lines += [""] + table }
    lines += legend.map { "\($0)" }
    let all = answer.map { "\($0)" as Line } + lines + ["\(summary)"]
    return all.joined(separator: "\n").text + "\n"
  }

  /// The headline, what is newly broken if it does not say that, and what no rule shows.
  private var answer: [String] {
    let isNew = !onlyDifferences && count(.worse) > 0
    return ["\(headline)."] + ((isNew ? [difference] : []) + reservations).map { "\($0)." }
  }

  /// Where the rule has which verdict, and what was seen where it is broken.
  private func said(_ row: Row) -> String {
    sentence(row) + (seen(row).map { "; seen: \($0)" } ?? "")
  }

  /// The rules that are listed, with a column for each group of reports.
  private var table: [Line] {
    let longest = listed.map(\.rule.count).max() ?? 0
    let columns = groups.prefix(Self.mostColumns)
    let head = columns.indices.map { Self.letter($0) }.joined(separator: " ")
    var lines: [Line] = ["\(Plain.pad("", to: longest))  \(head)"]
    let places = places
    for row in listed {
      let cells = columns.map { Self.sign($0.words[places[row.rule] ?? 0]) }.joined(separator: " ")
      lines.append("\(Plain.pad(Plain.oneLine(row.rule), to: longest))  \(cells)")
    }
    return lines + [
      (by.isEmpty ? "" : "the worst verdict of each group: ")
        + "+ holds, o observed, X BROKEN, k known, d differs, n not owed, - not tested, ? inconclusive",
      "",
    ]
  }

  /// Which reports a column stands for.
  private var legend: [String] {
    var lines = groups.prefix(Self.mostColumns).enumerated().map { index, group in
      let count = group.members.count == 1 ? "" : "\(group.members.count) reports: "
      return "\(Self.letter(index))  \(count)\(named(group.members)) (\(facts(group.members)))"
    }
    if groups.count > Self.mostColumns {
      lines.append("and \(groups.count - Self.mostColumns) more groups: --html FILE shows all")
    }
    return lines
  }

  private var places: [String: Int] {
    Dictionary(uniqueKeysWithValues: rows.enumerated().map { ($1.rule, $0) })
  }

  static func letter(_ index: Int) -> String {
    String(Character(Unicode.Scalar(UInt8(ascii: "A") + UInt8(index % 26))))
  }

  private static func sign(_ word: Status?) -> String {
    switch word {
    case .holds: "+"
    case .observed: "o"
    case .broken: "X"
    case .known: "k"
    case .differs: "d"
    case .notOwed: "n"
    case .notTested: "-"
    case .inconclusive: "?"
    case nil: " "
    }
  }
}

// Markdown.
extension Comparison {
  private var markdown: Markdown {
    var parts: [Markdown] = ["# \(headline)"]
    parts.append("\((answer.dropFirst() + ["\(summary)."]).joined(separator: " "))")
    for (isBroken, title) in [(true, "Broken"), (false, "Otherwise different")] {
      let rows = listed.filter { $0.isBroken == isBroken }
      let lines = rows.map { "- \(Markdown.code($0.rule)): \(said($0))" as Markdown }
      if !rows.isEmpty { parts.append("## \(title)\n\n\(lines.joined(separator: "\n"))") }
    }
    let columns = groups.prefix(Self.mostColumns)
    let places = places
    if !listed.isEmpty {
      parts.append(
        Markdown.table(
          [""] + columns.indices.map { "\(Self.letter($0))" },
          listed.map { row in
            [Markdown.code(row.rule)]
              + columns.map { "\(Self.label($0.words[places[row.rule] ?? 0]))" }
          }, columns: ":-:"))
    }
    parts.append(legend.map { "- \($0)" as Markdown }.joined(separator: "\n"))
    return parts.joined(separator: "\n\n") + "\n"
  }
}

// JSON: docs/comparison.schema.json describes it.
extension Comparison {
  private struct Document: Encodable {
    var format = "kvmclock-comparison"
    var version = 2
    var exitStatus: Int32
    var onlyDifferences: Bool
    /// The reports that break a rule, by name.
    var broken: [String]
    var reports: [Place]
    var rules: [Entry]
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
    var cpu: String?
    var microcode: String?
    var counts: ReportDocument.Counts
  }

  private struct Entry: Encodable {
    var rule: String
    var change: Row.Change
    var usual: String
    /// The reports that break it, by name.
    var brokenOn: [String]
    /// The reports that have each verdict, by name, where they differ.
    var verdicts: [String: [String]]
    var seen: String?
  }

  private var json: String {
    let document = Document(
      exitStatus: exitCode, onlyDifferences: onlyDifferences,
      broken: brokenReports.map { names[$0] },
      reports: reports.enumerated().map { index, report in
        Place(
          name: names[index], path: report.path, kvmclock: report.kvmclock,
          hostname: report.hostname, kernel: report.host.kernel, backend: report.host.backend,
          clocksource: report.host.clocksource, tscKHz: report.host.tscKHz,
          cpu: report.host.machine?.cpu, microcode: report.host.machine?.microcode,
          counts: report.counts)
      },
      rules: rows.map { row in
        let groups = row.change == .alike ? [] : verdicts(row)
        return Entry(
          rule: row.rule, change: row.change, usual: row.usual?.rawValue ?? "not judged",
          brokenOn: row.brokenOn.map { names[$0] },
          verdicts: Dictionary(
            uniqueKeysWithValues: groups.map { group in
              (group.word?.rawValue ?? "not judged", group.members.map { names[$0] })
            }), seen: seen(row))
      }, groups: groups.map { $0.members.map { names[$0] } })
    return JSONText.pretty(document)
  }
}
