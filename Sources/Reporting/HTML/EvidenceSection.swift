internal import ABIChecker

/// The events that prove rules broken, with those around them.
struct EvidenceSection {
  static let note = """
    The events that violations name, marked, and what was done just before and after. An event lies between two \
    readings of CLOCK_MONOTONIC_RAW: times are from the beginning of the history, and how long it took.
    """

  private let histories: [(history: History, cited: Set<Int>)]
  private let shown: Set<String>

  private static let context = 2
  private static let most = 80
  private static let proofs = 3

  init(_ report: Report) {
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
    self.histories = histories
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
    let start = history.events.first?.began.raw ?? 0
    var rows: [HTML] = []
    var last = 0
    for event in history.events {
      let near = (event.number - Self.context)...(event.number + Self.context)
      guard cited.contains(where: near.contains) else { continue }
      if event.number > last + 1 { rows.append("<tr class=\"gap\"><td colspan=\"5\">⋯</td></tr>") }
      last = event.number
      rows.append(row(event, cited.contains(event.number), start, history.header.name))
    }
    return """
      <div class="history">
      <h3>\(history.header.name)</h3>
      <div class="scroll"><table>
      <tr><th>event</th><th>by</th><th>at</th><th>took</th><th>what</th></tr>
      \(rows.joined(separator: "\n"))
      </table></div>
      </div>
      """
  }

  private func row(_ event: Event, _ isCited: Bool, _ start: UInt64, _ name: String) -> HTML {
    let at = Double(Int64(bitPattern: event.began.raw &- start))
    let took = Double(Int64(bitPattern: event.ended.raw &- event.began.raw))
    let mark: HTML = isCited ? " class=\"cited\" id=\"\(Self.id(event.number, name))\"" : ""
    return "<tr\(mark)><td>\(event.number)</td><td>\("\(event.actor)")</td>"
      + "<td>\(TimeUnit.text(at))</td><td>\(TimeUnit.text(took))</td>"
      + "<td class=\"what\">\(Self.describe(event.action))</td></tr>"
  }

  /// As a saved history has it, the kind of event first.
  private static func describe(_ action: Action) -> HTML {
    let json = JSONText.line(action)
    // {"wroteMSR":{…}}
    let parts = json.dropFirst(2).split(separator: "\"", maxSplits: 1)
    guard parts.count == 2 else { return "\(json)" }
    let rest = parts[1].dropFirst().dropLast()
    let plain = rest.filter { $0 != "\"" }
    return "<b>\(String(parts[0]))</b> "
      + "<code>\(Plain.oneLine(String(plain), limit: 400))</code>"
  }

  private static func id(_ event: Int, _ name: String) -> String {
    "e-\(HTML.anchor(name))-\(event)"
  }
}
