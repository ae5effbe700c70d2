/// A comparison for people with a browser.
extension Comparison {
  /// More columns than this are shown by groups of reports that say the same.
  private static let mostReports = 40

  var html: String {
    let sections = [
      PageSection("differences", "What differs", differences),
      PageSection("table", "Rules and reports", [table], note: tableNote),
      PageSection("reports", "Reports", [list]),
    ].filter { !$0.parts.isEmpty }
    let links = sections.map { "<a href=\"#\($0.id)\">\($0.title)</a>" }.joined(separator: "\n")
    return HTMLPage(
      title: "kvmclock: \(headline)",
      body: """
        \(hero)
        <nav class="wrap">
        \(links)
        </nav>
        <main class="wrap">
        \(sections.map(\.html).joined(separator: "\n"))
        </main>
        """
    ).text
  }

  private var hero: String {
    let isWorse = count(.worse) > 0
    let counts: [(Row.Change, Status)] = [
      (.alike, .holds), (.better, .observed), (.otherwise, .notTested), (.worse, .broken),
    ]
    let shown = counts.filter { count($0.0) > 0 }
    let pieces = shown.map { change, status in
      "<i class=\"\(status.kind)\" style=\"flex-grow:\(count(change))\"></i>"
    }
    let items = shown.map { change, status in
      "<li class=\"\(status.kind)\"><b>\(count(change))</b> \(change.rawValue)</li>"
    }
    let alike = groups.first.map { group in
      "\(group.members.count) of \(reports.count) reports say the same of every rule"
    }
    let lead = reports.count == 2 ? summary : "\(summary); \(alike ?? "")"
    return """
      <header class="hero \(isWorse ? "broken" : "holds")">
      <div class="wrap">
      <p class="brand"><b>kvmclock</b> compare</p>
      <div class="answer">
      <span class="seal" aria-hidden="true">\(isWorse ? "✗" : rows.count == count(.alike) ? "=" : "✓")</span>
      <div>
      <h1>\(Markup.line(headline))</h1>
      <p class="lead">\(Markup.line(lead))</p>
      </div>
      </div>
      <div class="meter">\(pieces.joined())</div>
      <ul class="counts">
      \(items.joined(separator: "\n"))
      </ul>
      </div>
      </header>
      """
  }

  private var differences: [String] {
    let kinds: [(Row.Change, Status)] = [
      (.worse, .broken), (.better, .holds), (.otherwise, .notTested),
    ]
    return kinds.flatMap { change, status in
      rows(change).map { row in
        let seen = change == .worse ? self.seen(row) : nil
        return """
          <details class="rule \(status.kind)" id="rule-\(Markup.line(row.rule))"\
          \(change == .worse && count(.worse) <= 5 ? " open" : "")>
          <summary><span class="mark">\(change == .worse ? "✗" : change == .better ? "✓" : "≠")</span> \
          <code>\(Markup.line(row.rule))</code> <span class="said">\(Markup.line(sentence(row)))\(seen.map { "; seen: \(Markup.line($0))" } ?? "")</span></summary>
          <p class="statement">\(Markup.line(row.statement ?? ""))</p>
          \(seen.map { "<div class=\"proof\"><p><b>Seen</b> \(Markup.line($0))</p></div>" } ?? "")
          <dl>
          \(verdicts(row).map(definition).joined(separator: "\n"))
          </dl>
          </details>
          """
      }
    }
  }

  private func definition(_ verdict: (word: Word?, members: [Int])) -> String {
    "<dt>\(Self.label(verdict.word))</dt><dd>\(verdict.members.count): "
      + "\(Markup.line(named(verdict.members, most: 200)))</dd>"
  }

  private var tableNote: String {
    isByGroups
      ? "A column stands for reports that say the same of every rule; how many they are stands at its head."
      : ""
  }

  private var isByGroups: Bool { reports.count > Self.mostReports }

  /// Rules that differ first: each with its verdict in every column.
  private var table: String {
    let columns: [(head: String, title: String, index: Int)] =
      isByGroups
      ? groups.prefix(60).map { ("\($0.members.count)", named($0.members), $0.members[0]) }
      : reports.indices.map { (names[$0], place($0), $0) }
    let heads = columns.map { column in
      "<th title=\"\(Markup.line(column.title))\"><span>\(Markup.line(column.head))</span></th>"
    }
    let ordered = rows.filter { $0.change != .alike } + rows.filter { $0.change == .alike }
    let lines = ordered.map { row in
      let cells = columns.map { column in Self.cell(row.words[column.index]) }
      let mark = row.change == .alike ? "" : " class=\"differs\""
      return "<tr\(mark)><th><code>\(Markup.line(row.rule))</code></th>\(cells.joined())</tr>"
    }
    return """
      <div class="scroll"><table class="grid-table">
      <tr><th></th>\(heads.joined())</tr>
      \(lines.joined(separator: "\n"))
      </table></div>
      """
  }

  private static func cell(_ word: Word?) -> String {
    guard let word else { return "<td></td>" }
    let status = Status(word)
    return "<td class=\"\(status.kind)\" title=\"\(word.rawValue)\">\(status.sign)</td>"
  }

  /// Each report, with where it is from.
  private var list: String {
    let lines = reports.indices.map { index -> String in
      let report = reports[index]
      let group = groups.firstIndex { $0.members.contains(index) } ?? 0
      let facts = [
        names[index], report.hostname ?? "", report.host.kernel, report.host.backend ?? "",
        report.host.tscKHz.map { "\($0)" } ?? "", report.host.clocksource ?? "",
        "\(report.counts.holds)", "\(report.counts.broken)", "\(report.counts.known)",
        "\(report.counts.notTested)", "\(report.counts.inconclusive)", "\(group + 1)",
      ]
      let mark = report.counts.broken > 0 ? " class=\"cited\"" : ""
      return "<tr\(mark)>\(facts.map { "<td>\(Markup.line($0))</td>" }.joined())</tr>"
    }
    let heads = [
      "report", "host", "kernel", "backend", "TSC, kHz", "clocksource", "hold", "broken", "known",
      "not tested", "inconclusive", "group",
    ].map { "<th>\($0)</th>" }
    return """
      <div class="history scroll"><table>
      <tr>\(heads.joined())</tr>
      \(lines.joined(separator: "\n"))
      </table></div>
      """
  }
}

extension Status {
  init(_ word: ReportDocument.Word) {
    self =
      switch word {
      case .holds: .holds
      case .observed: .observed
      case .broken: .broken
      case .known: .known
      case .notTested: .notTested
      case .inconclusive: .inconclusive
      }
  }
}
