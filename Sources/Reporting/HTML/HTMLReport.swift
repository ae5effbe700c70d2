internal import ABIChecker

/// A report for people with a browser: one file that needs no other, with pictures.
public struct HTMLReport: Sendable {
  public var report: Report

  public init(_ report: Report) { self.report = report }

  public var text: String {
    let digest = Digest(report)
    let gallery = Gallery(report.histories, broken: proving(digest))
    let evidence = EvidenceSection(report, findings: digest.findings.prefix(Self.mostOpen))
    let sections = [
      PageSection("finding", "The finding", worst(digest)),
      PageSection("map", "All rules", map(digest), note: Self.mapNote),
      PageSection("soak", "The soak", soak, note: Self.soakNote),
      PageSection("time", "Time", gallery.time.map(\.html), note: Self.timeNote),
      PageSection("spread", "vCPUs beside each other", gallery.spread.map(\.html)),
      PageSection("updates", "Updates of the record", gallery.updates.map(\.html)),
      PageSection("verdicts", "Verdicts", [verdicts(digest, evidence)]),
      PageSection("bounds", "Margins", bounds(digest), note: Self.boundsNote),
      PageSection("policies", "Policies", policies, note: Self.policyNote),
      PageSection("faults", "Faults", faults, note: Self.faultNote),
      PageSection("evidence", "Evidence", evidence.html, note: EvidenceSection.note),
      PageSection("run", "The run", run),
    ].filter { !$0.parts.isEmpty }
    let links = sections.map(\.link).joined(separator: "\n")
    return HTMLPage(
      title: "kvmclock: \(digest.headline.lowercased()), Linux \(report.host.kernel)",
      body: """
        \(hero(digest))
        <nav class="wrap">
        \(links)
        </nav>
        <main class="wrap">
        \(sections.map(\.html).joined(separator: "\n"))
        </main>
        """
    ).text
  }

  /// Findings whose first rule is open from the start, and in print.
  static let mostOpen = 6

  private static let timeNote = """
    Kvmclock and CLOCK_MONOTONIC_RAW both count nanoseconds by the TSC, so their difference should stay \
    within the green band. A line that leaves it has another rate, or a step: time that was lost or gained.
    """

  private static let mapNote = """
    One tile is one rule, by topic. Click a tile to go to the rule.
    """

  private static let boundsNote = """
    The distance of each rule’s worst observation from the nearest end of the range that the ABI allows, on a \
    logarithmic scale. A broken rule’s observation lies outside the range. A small margin is no sign of trouble: a \
    narrow range comes from precise measurements.
    """

  /// The clock at the worst finding that is a step of it.
  private func worst(_ digest: Digest) -> [HTML] {
    for finding in digest.findings {
      guard let step = finding.step,
        let history = report.histories.first(where: { $0.header.name == finding.history }),
        let figure = StepFigure(step, in: Timeline(history))
      else { continue }
      return [figure.figure(id: "finding-figure", title: "\(finding.sentence).").html]
    }
    return []
  }

  /// A tile for each rule.
  private func map(_ digest: Digest) -> [HTML] {
    digest.topics.map { topic in
      let tiles = topic.verdicts.map { verdict -> HTML in
        "<a class=\"tile \(verdict.status.kind)\" href=\"#rule-\(HTML.anchor(verdict.rule))\" "
          + "title=\"\(verdict.rule): \(verdict.status.label)\">\(verdict.status.sign)</a>"
      }
      return "<div class=\"tiles\"><span>\(topic.title)</span><div>\(tiles.joined())</div></div>"
    }
  }

  /// The histories that prove rules broken.
  private func proving(_ digest: Digest) -> [String] {
    var names: [String] = []
    for verdict in digest.failed + digest.excused {
      guard case .broken(let violations) = verdict.outcome else { continue }
      for name in violations.compactMap(\.history) where !names.contains(name) {
        names.append(name)
      }
    }
    return names
  }
}

/// A part of the page that can be reached by its name.
struct PageSection {
  var id: String
  var title: String
  var parts: [HTML]
  var note: String

  init(_ id: String, _ title: String, _ parts: [HTML], note: String = "") {
    self.id = id
    self.title = title
    self.parts = parts
    self.note = note
  }

  var link: HTML { "<a href=\"#\(id)\">\(title)</a>" }

  var html: HTML {
    let intro: HTML = note.isEmpty ? "" : "<p class=\"note\">\(note)</p>\n"
    return """
      <section id="\(id)">
      <h2>\(title)</h2>
      \(intro)<div class="parts">
      \(parts.joined(separator: "\n"))
      </div>
      </section>
      """
  }
}

// The first screen.
extension HTMLReport {
  private func hero(_ digest: Digest) -> HTML {
    let subject = Self.capitalized(digest.subject).replacing("'", with: "’")
    let (kind, seal, title) =
      switch digest.answer {
      case .sound: ("holds", "✓", "\(subject) is sound")
      case .broken: ("broken", "✗", "\(subject) is not sound")
      case .undecided: ("inconclusive", "?", "Undecided")
      case .nothing: ("nottested", "–", "Nothing was tested")
      }
    let facts = report.facts.map { "<div><dt>\($0.0)</dt><dd>\($0.1)</dd></div>" as HTML }
    let sentence = Self.capitalized(digest.sentence)
    let interruption = digest.interruption.map { "<p class=\"alert\">\($0)</p>" as HTML }
    let why = self.why(digest).map { "<li class=\"\($0.0.kind)\">\($0.1)</li>" as HTML }
    return """
      <header class="hero \(kind)">
      <div class="wrap">
      <p class="brand"><b>kvmclock</b> \(report.version)</p>
      <div class="answer">
      <span class="seal" aria-hidden="true">\(seal)</span>
      <div>
      <h1>\(title)</h1>
      <p class="lead">\(sentence)</p>
      \(interruption)
      </div>
      </div>
      \(meter(Status.allCases.map { ($0, report.count($0)) }))
      <ul class="counts">
      \(counts)
      </ul>
      <ul class="why">
      \(why.joined(separator: "\n"))
      </ul>
      \(again(digest))
      <dl class="facts">
      \(facts.joined(separator: "\n"))
      </dl>
      </div>
      </header>
      """
  }

  private static func capitalized(_ text: String) -> String {
    text.prefix(1).uppercased() + text.dropFirst()
  }

  private var counts: HTML {
    Status.allCases.filter { report.count($0) > 0 }.map { status -> HTML in
      "<li class=\"\(status.kind)\"><b>\(report.count(status))</b> \(status.plural)</li>"
    }.joined(separator: "\n")
  }

  /// A bar with a piece for each status.
  func meter(_ counts: [(Status, Int)]) -> HTML {
    let pieces = counts.filter { $0.1 > 0 }.map { status, count -> HTML in
      "<i class=\"\(status.kind)\" style=\"flex-grow:\(count)\" title=\"\(count) \(status.plural)\"></i>"
    }
    return "<div class=\"meter\">\(pieces.joined())</div>"
  }

  /// What is wrong in the fewest words, or what is not said.
  private func why(_ digest: Digest) -> [(Status, HTML)] {
    let findings = digest.findings
    var items = findings.prefix(4).map { finding -> (Status, HTML) in
      let rules = finding.verdicts.prefix(3).map { link($0.rule) }.joined(separator: ", ")
      let left = finding.verdicts.count - 3
      let more: HTML = left > 0 ? " and \(left) more" : ""
      return (
        .broken,
        finding.step == nil
          ? "\(rules)\(more) broken: <b>\(statement(of: finding))</b> "
            + "Seen: \(Plain.sentence(finding.violation.seen, limit: 160))"
          : "<b>\(Plain.sentence(finding.sentence, limit: 200))</b> Breaks \(rules)\(more)."
      )
    }
    if findings.count > 4 {
      items.append((.broken, "<a href=\"#verdicts\">and \(findings.count - 4) more findings</a>"))
    }
    guard findings.isEmpty else { return items }
    items += digest.groups(.inconclusive).prefix(3).map {
      (.inconclusive, "\(link($0.rules[0])) \($0.reason)")
    }
    let titles: [(Status, String)] = [
      (.known, "Known bugs of this kernel, which do not count as broken"),
      (.differs, "Differs from Linux"),
      (.notOwed, "Not owed by this kernel"),
    ]
    for (status, title) in titles {
      let rules = digest.excused.filter { $0.status == status }
      guard !rules.isEmpty else { continue }
      let names: HTML = rules.map { link($0.rule) }.joined(separator: ", ")
      items.append((status, "\(title): \(names)"))
    }
    return items + untested(digest)
  }

  /// What the rule that shows it best says.
  private func statement(of finding: Finding) -> String {
    let rule = finding.verdicts[0].rule
    return Plain.sentence(Rule.named(rule)?.statement ?? rule, limit: 240)
  }

  /// How to see the worst finding again, and what its rule rests on.
  private func again(_ digest: Digest) -> HTML? {
    guard let worst = digest.findings.first?.verdicts.first,
      let command = report.repeatCommand(worst)
    else { return nil }
    return """
      <p class="again">Repeat: <kbd>\(command)</kbd></p>
      <p class="again">What the rule rests on: <kbd>kvmclock explain \(worst.rule)</kbd></p>
      """
  }

  private func untested(_ digest: Digest) -> [(Status, HTML)] {
    let groups = digest.groups(.notTested)
    let shown = groups.prefix(2).map { group -> (Status, HTML) in
      let rules = Digest.counted(group.rules.count, "rule")
      return (.notTested, "Not tested: \(rules) (\(group.reason))")
    }
    let left = groups.dropFirst(2).reduce(0) { $0 + $1.rules.count }
    return left == 0
      ? shown : shown + [(.notTested, "<a href=\"#verdicts\">and \(left) more not tested</a>")]
  }

  func link(_ rule: String) -> HTML {
    "<a href=\"#rule-\(HTML.anchor(rule))\"><code>\(rule)</code></a>"
  }
}

extension Status {
  /// Its name in the style sheet.
  var kind: String {
    switch self {
    case .holds: "holds"
    case .observed: "observed"
    case .broken: "broken"
    case .known, .differs, .notOwed: "known"
    case .notTested: "nottested"
    case .inconclusive: "inconclusive"
    }
  }

  var plural: String {
    switch self {
    case .holds: "hold"
    case .broken: "broken"
    default: rawValue
    }
  }

  /// For those to whom colours look alike.
  var sign: String {
    switch self {
    case .holds: "✓"
    case .observed: "○"
    case .broken: "✗"
    case .known, .differs, .notOwed: "!"
    case .notTested: "–"
    case .inconclusive: "?"
    }
  }
}
