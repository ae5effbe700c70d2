internal import ABIChecker
internal import Glibc

// Each rule, by topic.
extension HTMLReport {
  private static let shown = 3

  func verdicts(_ digest: Digest, _ evidence: EvidenceSection) -> HTML {
    let failing = digest.findings.flatMap(\.verdicts)
    let failed = Set(failing.map(\.rule))
    var topics: [HTML] = []
    if !failing.isEmpty {
      let open = Set(digest.findings.prefix(Self.mostOpen).map(\.verdicts[0].rule))
      let rules = failing.map { rule($0, evidence, isOpen: open.contains($0.rule)) }
      topics.append(
        "<section class=\"topic\">\n<h3>Broken</h3>\n\(rules.joined(separator: "\n"))\n</section>")
    }
    for topic in digest.topics {
      let rest = topic.verdicts.filter { !failed.contains($0.rule) }
      guard !rest.isEmpty else { continue }
      let rules = rest.map { rule($0, evidence, isOpen: false) }.joined(separator: "\n")
      topics.append(
        """
        <details class="topic">
        <summary><h3>\(topic.title) \(meter(Status.allCases.map { ($0, topic.count($0)) }))</h3></summary>
        \(rules)
        </details>
        """)
    }
    return """
      <form id="filter" hidden>
      <input type="search" placeholder="Find a rule" aria-label="Find a rule">
      \(buttons)
      </form>
      \(topics.joined(separator: "\n"))
      """
  }

  private var buttons: HTML {
    Status.allCases.filter { report.count($0) > 0 }.map { status -> HTML in
      "<label class=\"\(status.kind)\"><input type=\"checkbox\" value=\"\(status.kind)\" checked>"
        + " \(report.count(status)) \(status.plural)</label>"
    }.joined(separator: "\n")
  }

  private func rule(_ verdict: Verdict, _ evidence: EvidenceSection, isOpen: Bool) -> HTML {
    let status = verdict.status
    let rule = Rule.named(verdict.rule)
    var body: [HTML] = []
    if let rule { body.append("<p class=\"statement\">\(rule.statement)</p>") }
    body += proofs(verdict, evidence)
    if case .holds(_, let closest?) = verdict.outcome { body.append(Self.gauge(closest)) }
    var items: [(String, HTML)] = []
    if let excuse = verdict.excuse {
      items.append((verdict.status.rawValue.capitalized, .linked(excuse)))
    }
    if let rule { items += [("Tested", "\(rule.method)"), ("Source", .linked(rule.source))] }
    if let command = repeatCommand(verdict) {
      items.append(("Repeat", "<kbd>\(command)</kbd>"))
    }
    let list = items.map { "<dt>\($0.0)</dt><dd>\($0.1)</dd>" as HTML }.joined(separator: "\n")
    return """
      <details class="rule \(status.kind)" id="rule-\(HTML.anchor(verdict.rule))"\
      \(isOpen ? " open" : "")>
      <summary><span class="mark" title="\(status.label)">\(status.sign)</span> \
      <code>\(verdict.rule)</code> <span class="said">\(said(verdict))</span></summary>
      \(body.joined(separator: "\n"))
      <dl>
      \(list)
      </dl>
      </details>
      """
  }

  private func repeatCommand(_ verdict: Verdict) -> String? {
    verdict.outcome.isBroken ? report.repeatCommand(verdict) : nil
  }

  private func said(_ verdict: Verdict) -> String {
    verdict.excuse ?? verdict.outcome.summary
  }

  private func proofs(_ verdict: Verdict, _ evidence: EvidenceSection) -> [HTML] {
    guard case .broken(let violations) = verdict.outcome else { return [] }
    var parts = violations.prefix(Self.shown).enumerated().map { index, violation -> HTML in
      """
      <div class="proof">
      <p><b>Expected</b> \(violation.expected)</p>
      <p><b>Seen</b> \(violation.seen)</p>
      \(index == 0 ? picture(violation, verdict) : nil)
      \(violation.measure.map(Self.gauge))
      <p class="where"><b>Where</b> \(evidence.links(to: violation, in: verdict))</p>
      </div>
      """
    }
    if violations.count > Self.shown {
      let more = Digest.counted(violations.count - Self.shown, "more violation")
      parts.append("<p>and \(more)</p>")
    }
    return parts
  }
}

extension HTMLReport {
  /// The step of the clock that a violation is.
  private func picture(_ violation: Violation, _ verdict: Verdict) -> HTML? {
    let name = violation.history ?? verdict.scenario
    guard let history = report.histories.first(where: { $0.header.name == name }) else {
      return nil
    }
    let timeline = Timeline(history)
    guard let step = timeline.wrongStep(violation.events),
      let figure = StepFigure(step, in: timeline)
    else { return nil }
    let sentence = step.sentence.prefix(1).uppercased() + step.sentence.dropFirst()
    return figure.figure(id: "step-\(verdict.rule)", title: "\(sentence).").html
  }
}

// Intervals.
extension HTMLReport {
  /// The allowed interval and the observation. Three fifths of the width are the interval.
  static func gauge(_ measure: Measure) -> HTML {
    let isOutside = measure.margin < 0
    let place = min(98, max(2, 20 + measure.position * 60))
    let distance =
      measure.value < measure.lower
      ? Double(measure.lower) - Double(measure.value)
      : Double(measure.value) - Double(measure.upper)
    let note =
      isOutside
      ? "\(TimeUnit.text(distance)) too \(measure.value < measure.lower ? "low" : "high")"
      : "margin \(TimeUnit.text(Double(measure.slack)))"
    // Where the ends look alike, the upper one is counted from the lower one.
    let width = Double(measure.upper) - Double(measure.lower)
    let isFar = width < abs(Double(measure.lower)) / 100
    let upper = isFar ? "+\(TimeUnit.text(width))" : TimeUnit.text(Double(measure.upper))
    let inside = "+\(TimeUnit.text(Double(measure.value) - Double(measure.lower)))"
    let value = isFar && !isOutside ? inside : TimeUnit.text(Double(measure.value))
    return """
      <div class="gauge\(isOutside ? " outside" : "")" title="\(measure.what)">
      <div class="track"><i class="band"></i><i class="dot" style="left:\(SVG.at(place))%"></i></div>
      <span class="from">\(TimeUnit.text(Double(measure.lower)))</span>\
      <span class="to">\(upper)</span>\
      <span class="at">\(value): \(note)</span>
      </div>
      """
  }

  /// The rules whose observations left their interval, and those that came nearest to it.
  func bounds(_ digest: Digest) -> [HTML] {
    var rows: [(rule: String, status: Status, measure: Measure)] = []
    for verdict in report.verdicts {
      switch verdict.outcome {
      case .holds(_, let closest?): rows.append((verdict.rule, .holds, closest))
      case .broken(let violations):
        guard let worst = violations.compactMap(\.measure).min(by: { $0.margin < $1.margin })
        else { continue }
        rows.append((verdict.rule, verdict.status, worst))
      default: break
      }
    }
    // At an end itself lies what a rule of one side expects: no step back at all, say.
    let outside = rows.filter { $0.measure.margin < 0 }.sorted {
      $0.measure.slack < $1.measure.slack
    }
    let inside = rows.filter { $0.measure.slack > 0 }.sorted { $0.measure.slack < $1.measure.slack }
    let shown = outside + inside.prefix(24)
    guard !shown.isEmpty else { return [] }
    let most = max(3, shown.map { Self.decades($0.measure) }.max() ?? 3)
    let lines = shown.map { row -> HTML in
      let measure = row.measure
      let side =
        measure.margin >= 0
        ? "inside" : measure.value < measure.lower ? "too low" : "too high"
      let width = SVG.at(Self.decades(measure) / most * 100)
      return "<tr class=\"\(row.status.kind)\" title=\"\(measure.what)\"><th>\(link(row.rule))</th>"
        + "<td>\(TimeUnit.text(Double(abs(measure.slack)))) \(side)</td>"
        + "<td><i style=\"width:\(width)%\"></i></td></tr>"
    }
    let left = inside.count - 24
    let more: HTML = left > 0 ? "<p class=\"note\">\(left) more rules have wider margins.</p>" : ""
    return ["<table class=\"margins\">\(lines.joined(separator: "\n"))</table>\(more)"]
  }

  /// The number of digits of a distance in nanoseconds: its place on a logarithmic scale that begins at 1 ns.
  private static func decades(_ measure: Measure) -> Double {
    log10(max(1, Double(abs(measure.slack))))
  }

  /// How long each scenario took, notes, and what was done.
  var run: [HTML] {
    var parts: [HTML] = []
    let notes = (report.outdated + report.notes).map { "<li>\($0)</li>" as HTML }
    if !notes.isEmpty { parts.append("<ul class=\"notes\">\(notes.joined())</ul>") }
    if let machine = report.host.machine, !machine.items.isEmpty {
      let rows = machine.items.map {
        "<tr><th>\($0.0)</th><td class=\"fact\">\($0.1)</td></tr>" as HTML
      }
      parts.append(
        "<details class=\"timings\"><summary>The host: CPU, module parameters, command line</summary>"
          + "<table>\(rows.joined(separator: "\n"))</table></details>")
    }
    let longest = Double(report.timings.map(\.nanoseconds).max() ?? 1)
    let rows = report.timings.sorted { $0.nanoseconds > $1.nanoseconds }.map { timing -> HTML in
      let share = SVG.at(Double(timing.nanoseconds) / longest * 100)
      let again = timing.attempt > 1 ? " (attempt \(timing.attempt))" : ""
      return "<tr><th>\(timing.scenario)\(again)</th>"
        + "<td>\(Report.milliseconds(timing.nanoseconds)) ms</td>"
        + "<td><i style=\"width:\(share)%\"></i></td></tr>"
    }
    if !rows.isEmpty {
      let total = report.nanoseconds.map { " in \(Report.seconds($0))" } ?? ""
      parts.append(
        "<details class=\"timings\"><summary>\(rows.count) scenarios\(total), "
          + "\(Digest.counted(report.retries, "retry", "retries"))</summary>"
          + "<table>\(rows.joined(separator: "\n"))</table></details>")
    }
    return parts
  }
}
