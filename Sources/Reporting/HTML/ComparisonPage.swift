/// A comparison for people with a browser.
extension Comparison {
  /// More columns than this are shown by groups of reports that say the same.
  private static let mostReports = 40

  var html: String {
    let sections = [
      PageSection("differences", "What is broken and what differs", differences),
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
    let broken = rows.count(where: \.isBroken)
    let alike = rows.count { !$0.isBroken && $0.change == .alike }
    let counts: [(String, Int, Status)] = [
      ("broken", broken, .broken), ("differ", rows.count - broken - alike, .notTested),
      ("alike", alike, .holds),
    ]
    let shown = counts.filter { $0.1 > 0 }
    let pieces = shown.map { _, count, status in
      "<i class=\"\(status.kind)\" style=\"flex-grow:\(count)\"></i>"
    }
    let items = shown.map { word, count, status in
      "<li class=\"\(status.kind)\"><b>\(count)</b> \(word)</li>"
    }
    let largest = groups.first.map { group in
      "\(group.members.count) of \(reports.count) reports say the same of every rule"
    }
    let lead = reports.count == 2 ? summary : "\(summary); \(largest ?? "")"
    let isNew = !onlyDifferences && count(.worse) > 0
    // A tick is for reports without a broken rule, whatever is asked for.
    let (answer, seal): (Status, String) =
      if exitCode != 0 {
        (.broken, "✗")
      } else if broken > 0 {
        (.known, "!")
      } else {
        (.holds, rows.count == count(.alike) ? "=" : "✓")
      }
    return """
      <header class="hero \(answer.kind)">
      <div class="wrap">
      <p class="brand"><b>kvmclock</b> compare</p>
      <div class="answer">
      <span class="seal" aria-hidden="true">\(seal)</span>
      <div>
      <h1>\(Markup.line(headline))</h1>
      <p class="lead">\(Markup.line(isNew ? "\(difference). \(lead)" : lead))</p>
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
    let areFew = listed.count(where: \.isBroken) <= 5
    return listed.map { row in
      let status: Status = row.isBroken ? .broken : .notTested
      let seen = self.seen(row)
      return """
        <details class="rule \(status.kind)" id="rule-\(Markup.line(row.rule))"\
        \(row.isBroken && areFew ? " open" : "")>
        <summary><span class="mark">\(row.isBroken ? "✗" : "≠")</span> \
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

  /// Rules that are listed above first: each with its verdict in every column.
  private var table: String {
    let columns: [(head: String, title: String, index: Int)] =
      isByGroups
      ? groups.prefix(60).map { ("\($0.members.count)", named($0.members), $0.members[0]) }
      : reports.indices.map { (names[$0], place($0), $0) }
    let heads = columns.map { column in
      "<th title=\"\(Markup.line(column.title))\"><span>\(Markup.line(column.head))</span></th>"
    }
    let listed = self.listed
    let rules = Set(listed.map(\.rule))
    let ordered = listed + rows.filter { !rules.contains($0.rule) }
    let lines = ordered.map { row in
      let cells = columns.map { column in Self.cell(row.words[column.index]) }
      let mark = row.change == .alike && !row.isBroken ? "" : " class=\"differs\""
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
