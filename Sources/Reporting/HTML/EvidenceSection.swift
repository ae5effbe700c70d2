internal import ABIChecker

/// The events that prove rules broken, with those around them.
struct EvidenceSection {
  static let note = """
    The events that violations name, marked, and what was done just before and after. An event lies between two \
    readings of CLOCK_MONOTONIC_RAW: times are from the beginning of the history, and how long it took. The clock is \
    what the guest computes, beside its advance and that of CLOCK_MONOTONIC_RAW since the value before; an advance that \
    CLOCK_MONOTONIC_RAW does not allow is red.
    """

  private let histories: [(history: History, cited: Set<Int>)]
  private let shown: Set<String>
  /// The events that are printed: the proofs of the findings that are open in print, and the events beside them.
  private let printed: [String: Set<Int>]

  private static let context = 2
  private static let most = 80
  private static let proofs = 3

  init(_ report: Report, findings: some Sequence<Finding>) {
    var printed: [String: Set<Int>] = [:]
    var order: [String] = []
    for finding in findings {
      let name = finding.violation.history ?? finding.verdicts[0].scenario
      order.append(name)
      for event in finding.violation.events.prefix(4) {
        printed[name, default: []].formUnion([event - 1, event, event + 1])
      }
    }
    self.printed = printed
    var cited: [String: Set<Int>] = [:]
    for verdict in report.verdicts {
      guard case .broken(let violations) = verdict.outcome else { continue }
      for violation in violations.prefix(Self.proofs) {
        cited[violation.history ?? verdict.scenario, default: []].formUnion(violation.events)
      }
    }
    var named: Set<String> = []
    var histories: [(history: History, cited: Set<Int>)] = []
    for history in report.histories {
      guard let events = cited[history.header.name], named.insert(history.header.name).inserted
      else { continue }
      histories.append((history, Set(events.sorted().prefix(Self.most))))
    }
    // Those of the worst findings first.
    func rank(_ name: String) -> Int { order.firstIndex(of: name) ?? order.count }
    self.histories = histories.enumerated().sorted {
      (rank($0.element.history.header.name), $0.offset)
        < (rank($1.element.history.header.name), $1.offset)
    }.map(\.element)
    shown = Set(
      histories.flatMap { item in item.cited.map { Self.id($0, item.history.header.name) } })
  }

  /// "events 12, 15 of rewrite.1", each a link to where it is shown.
  func links(to violation: Violation, in verdict: Verdict) -> HTML {
    let name = violation.history ?? verdict.scenario
    let events = violation.events.map { number -> HTML in
      let id = Self.id(number, name)
      return shown.contains(id) ? "<a href=\"#\(id)\">\(number)</a>" : "\(number)"
    }
    return "\(events.count == 1 ? "event" : "events") \(events.joined(separator: ", ")) "
      + "of \(name)"
  }

  var html: [HTML] { histories.map { table($0.history, $0.cited) } }

  private func table(_ history: History, _ cited: Set<Int>) -> HTML {
    let printed = printed[history.header.name] ?? []
    let table = EventTable(Timeline(history), marked: cited) { number in
      cited.contains { abs($0 - number) <= Self.context }
    }
    var rows: [HTML] = []
    var last = 0
    for row in table.rows {
      if row.event.number > last + 1 {
        rows.append("<tr class=\"gap\"><td colspan=\"8\">⋯</td></tr>")
      }
      last = row.event.number
      rows.append(self.row(row, history.header.name, printed.contains(row.event.number)))
    }
    return """
      <div class="history\(printed.isEmpty ? "" : " printed")">
      <h3>\(history.header.name)</h3>
      <div class="scroll"><table>
      <tr><th>event</th><th>by</th><th>at</th><th>took</th><th>clock, ns</th><th>advance</th>\
      <th>RAW’s advance</th><th>what</th></tr>
      \(rows.joined(separator: "\n"))
      </table></div>
      </div>
      """
  }

  private func row(_ row: EventTable.Row, _ name: String, _ isPrinted: Bool) -> HTML {
    let kinds = (row.isMarked ? ["cited"] : []) + (isPrinted ? ["printed"] : [])
    let kind: HTML = kinds.isEmpty ? "" : " class=\"\(kinds.joined(separator: " "))\""
    let mark: HTML = row.isMarked ? "\(kind) id=\"\(Self.id(row.event.number, name))\"" : kind
    let wrong: HTML = row.isWrong ? " class=\"wrong\"" : ""
    return "<tr\(mark)><td>\(row.event.number)</td><td>\(row.event.who)</td>"
      + "<td>\(row.at)</td><td>\(row.took)</td><td>\(row.clock)</td>"
      + "<td\(wrong)>\(row.advance)</td><td>\(row.raw)</td>"
      + "<td class=\"what\"><details><summary>\(Plain.oneLine(row.what, limit: 300))</summary>"
      + "<code>\(Plain.oneLine(row.event.action.raw, limit: 400))</code></details></td></tr>"
  }

  private static func id(_ event: Int, _ name: String) -> String {
    "e-\(HTML.anchor(name))-\(event)"
  }
}
