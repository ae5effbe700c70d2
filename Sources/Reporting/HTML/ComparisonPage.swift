internal import ABIChecker

/// A comparison for people with a browser.
extension Comparison {
  /// More columns than this are shown by groups of reports that say the same.
  private static let mostReports = 40

  var html: String {
    let sections = [
      PageSection("table", "Rules and reports", table, note: tableNote),
      PageSection("differences", "What is broken and what differs", differences),
      PageSection("reports", "Reports", [list]),
    ].filter { !$0.parts.isEmpty }
    let links = sections.map(\.link).joined(separator: "\n")
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

  private var hero: HTML {
    let broken = rows.count(where: \.isBroken)
    let alike = rows.count { !$0.isBroken && $0.change == .alike }
    let counts: [(String, Int, Status)] = [
      ("broken", broken, .broken), ("differ", rows.count - broken - alike, .notTested),
      ("alike", alike, .holds),
    ]
    let shown = counts.filter { $0.1 > 0 }
    let pieces = shown.map { _, count, status -> HTML in
      "<i class=\"\(status.kind)\" style=\"flex-grow:\(count)\"></i>"
    }
    let items = shown.map { word, count, status -> HTML in
      "<li class=\"\(status.kind)\"><b>\(count)</b> \(word)</li>"
    }
    let largest = groups.first.map { group in
      "\(group.members.count) of \(reports.count) reports say the same of every rule"
    }
    let lead = reports.count == 2 ? summary : "\(summary); \(largest ?? "")"
    let isNew = !onlyDifferences && count(.worse) > 0
    // A tick is for reports without a broken rule, whatever is asked for.
    let (answer, seal): (Status, String) =
      if exitCode == 1 {
        (.broken, "✗")
      } else if broken > 0 || !reservations.isEmpty {
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
      <h1>\(headline)</h1>
      <p class="lead">\(((isNew ? [difference] : []) + reservations + [lead]).joined(separator: ". "))</p>
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

  private var differences: [HTML] {
    let areFew = listed.count(where: \.isBroken) <= 5
    return listed.map { row -> HTML in
      let status: Status = row.isBroken ? .broken : .notTested
      let seen = self.seen(row)
      let proof = seen.map { "<div class=\"proof\"><p><b>Seen</b> \($0)</p></div>" as HTML }
      return """
        <details class="rule \(status.kind)" id="rule-\(HTML.anchor(row.rule))"\
        \(row.isBroken && areFew ? " open" : "")>
        <summary><span class="mark">\(row.isBroken ? "✗" : "≠")</span> \
        <code>\(row.rule)</code> <span class="said">\(sentence(row))\(seen.map { "; seen: \($0)" } ?? "")</span></summary>
        <p class="statement">\(row.statement ?? "")</p>
        \(proof)
        <dl>
        \(verdicts(row).map(definition).joined(separator: "\n"))
        </dl>
        </details>
        """
    }
  }

  private func definition(_ verdict: (word: Status?, members: [Int])) -> HTML {
    "<dt>\(Self.label(verdict.word))</dt><dd>\(verdict.members.count): "
      + "\(named(verdict.members, most: 200))</dd>"
  }

  private var tableNote: String {
    !by.isEmpty
      ? "A column stands for reports with the same facts, and shows the worst verdict of them; how many they are stands at its head."
      : isByGroups
        ? "A column stands for reports that say the same of every rule; how many they are stands at its head."
        : ""
  }

  private var isByGroups: Bool { !by.isEmpty || reports.count > Self.mostReports }

  /// What is broken or differs, with the verdict in every column; below, folded, what is alike.
  private var table: [HTML] {
    let columns = self.columns
    let places = Dictionary(uniqueKeysWithValues: rows.enumerated().map { ($1.rule, $0) })
    let listed = self.listed
    let rules = Set(listed.map(\.rule))
    let rest = rows.filter { !rules.contains($0.rule) }
    func grid(_ rows: [Row]) -> HTML {
      let lines = rows.map { row -> HTML in
        let place = places[row.rule] ?? 0
        let cells = columns.map { column in
          Self.cell(isByGroups ? groups[column.index].words[place] : row.words[column.index])
        }
        let name: HTML =
          rules.contains(row.rule)
          ? "<a href=\"#rule-\(HTML.anchor(row.rule))\"><code>\(row.rule)</code></a>"
          : "<code>\(row.rule)</code>"
        return "<tr><th>\(name)</th>\(cells.joined())</tr>"
      }
      return """
        <div class="scroll"><table class="grid-table">
        \(heads(columns))
        \(lines.joined(separator: "\n"))
        </table></div>
        """
    }
    let alike = Digest.counted(rest.count, "rule")
    return (listed.isEmpty ? [] : [grid(listed)])
      + (rest.isEmpty
        ? []
        : [
          "<details class=\"alike\"><summary>\(alike) on which all agree</summary>\n\(grid(rest))\n</details>"
        ])
  }

  private typealias Column = (head: String, title: String, kind: String, index: Int)

  /// Reports of one kernel and CPU stand beside each other.
  private var columns: [Column] {
    guard !isByGroups else {
      return groups.indices.prefix(60).map {
        ("\(groups[$0].members.count)", facts(groups[$0].members), "", $0)
      }
    }
    return reports.indices.map { index in
      let report = reports[index]
      let kind = [Fact.kernel, .cpu].map { report.value(of: $0) }.filter { $0 != "unknown" }
      return (names[index], facts([index]), kind.joined(separator: ", "), index)
    }.sorted { ($0.kind, $0.index) < ($1.kind, $1.index) }
  }

  /// The names of the columns; above them, where there are several, the kernels and CPUs.
  private func heads(_ columns: [Column]) -> HTML {
    var kinds: [(kind: String, count: Int)] = []
    for column in columns {
      if kinds.last?.kind == column.kind {
        kinds[kinds.count - 1].count += 1
      } else {
        kinds.append((column.kind, 1))
      }
    }
    let above = kinds.map { kind, count -> HTML in
      "<th class=\"kind\" colspan=\"\(count)\">\(kind)</th>"
    }
    let names = columns.map { column -> HTML in
      "<th title=\"\(column.title)\"><span>\(column.head)</span></th>"
    }
    let first: HTML = kinds.count > 1 ? "<tr><th></th>\(above.joined())</tr>\n" : ""
    return "\(first)<tr class=\"names\"><th></th>\(names.joined())</tr>"
  }

  private static func cell(_ word: Status?) -> HTML {
    guard let word else { return "<td></td>" }
    return "<td class=\"\(word.kind)\" title=\"\(word.label)\">\(word.sign)</td>"
  }

  /// Each report, with where it is from.
  private var list: HTML {
    let lines = reports.indices.map { index -> HTML in
      let report = reports[index]
      let group = groups.firstIndex { $0.members.contains(index) } ?? 0
      let facts = [
        names[index], report.hostname ?? "", report.host.kernel, report.host.backend ?? "",
        report.host.tscKHz.map { "\($0)" } ?? "", report.host.clocksource ?? "",
        "\(report.counts.holds)", "\(report.counts.broken)", "\(report.counts.known)",
        "\(report.counts.notTested)", "\(report.counts.inconclusive)", "\(group + 1)",
      ]
      let mark: HTML = report.counts.broken > 0 ? " class=\"cited\"" : ""
      return "<tr\(mark)>\(facts.map { "<td>\($0)</td>" as HTML }.joined())</tr>"
    }
    let heads = [
      "report", "host", "kernel", "backend", "TSC, kHz", "clocksource", "hold", "broken", "known",
      "not tested", "inconclusive", "group",
    ].map { "<th>\($0)</th>" as HTML }
    return """
      <div class="history scroll"><table>
      <tr>\(heads.joined())</tr>
      \(lines.joined(separator: "\n"))
      </table></div>
      """
  }
}
