internal import ABIChecker

/// A report for people: at first what they have to know, and each rule where they ask for it.
public struct TextReport: Sendable {
  public var report: Report
  public var coloured: Bool
  /// Columns to wrap lines at; nil keeps them whole.
  public var width: Int?
  public var style: ReportStyle

  /// How many violations of one rule: one tells a person, and a few tell the one who looks closer.
  private var shown: Int { listsRules ? 3 : 1 }
  private static let statusWidth = Status.inconclusive.rawValue.count

  public init(
    _ report: Report, coloured: Bool = false, width: Int? = nil,
    style: ReportStyle = ReportStyle()
  ) {
    self.report = report
    self.coloured = coloured
    self.width = width
    self.style = style
  }

  public var text: String {
    let digest = Digest(report)
    var lines: [Line] = wrapped(report.headline) + answer(digest)
    lines += style.figures.flatMap { figure in wrapped(figure) }
    lines += listsRules ? rules : (style.figures.isEmpty ? topics(digest) : []) + exceptions(digest)
    if style.showsTimings { lines += report.timingLines.map { "\($0)" } }
    lines += (report.outdated + report.notes).map { "note: \($0)" }
    if let interruption = digest.interruption { lines.append("\(interruption)") }
    if !listsRules {
      lines.append("--verbose shows each rule, --html FILE pictures too; `kvmclock explain RULE`")
    }
    return (lines + wrapped(summary(digest))).joined(separator: "\n").text + "\n"
  }

  /// A handful of rules was asked for by name: each is of interest.
  private var listsRules: Bool {
    style.isVerbose || (report.verdicts.count <= 20 && style.figures.isEmpty)
  }

  private func answer(_ digest: Digest) -> [Line] {
    let status: Status =
      switch digest.answer {
      case .sound: .holds
      case .broken, .nothing: .broken
      case .undecided: .inconclusive
      }
    let lines = wrapped("\(digest.headline): \(digest.sentence)")
    let rest = String(lines[0].text.dropFirst(digest.headline.count))
    return ["\(paint(digest.headline, status))\(rest)"] + lines.dropFirst()
  }

  private func wrapped(_ text: String) -> [Line] {
    let lines = Plain.wrap(text, width: width)
    return lines.prefix(1).map { "\($0)" }
      + lines.dropFirst().flatMap {
        Plain.wrap($0, width: width.map { $0 - 2 }).map { "  \($0)" }
      }
  }

  private func summary(_ digest: Digest) -> String {
    guard let nanoseconds = report.nanoseconds else { return digest.counts }
    let retries = Digest.counted(report.retries, "retry", "retries")
    return "\(digest.counts); \(retries); \(Report.seconds(nanoseconds))"
  }
}

/// What is shown, apart from the report itself.
public struct ReportStyle: Hashable, Sendable {
  public var showsTimings: Bool
  /// Each rule, not only what calls for attention.
  public var isVerbose: Bool
  /// Lines for people that take the place of the counts by topic.
  public var figures: [String]

  public init(showsTimings: Bool = false, isVerbose: Bool = false, figures: [String] = []) {
    self.showsTimings = showsTimings
    self.isVerbose = isVerbose
    self.figures = figures
  }
}

// Each rule.
extension TextReport {
  private var rules: [Line] {
    let longest = report.verdicts.map(\.rule.count).max() ?? 0
    return report.verdicts.flatMap { verdict in
      ruleLine(verdict, idWidth: longest) + proof(verdict)
    }
  }

  private func ruleLine(_ verdict: Verdict, idWidth: Int) -> [Line] {
    let id = Plain.pad(verdict.rule, to: idWidth)
    let indent = Self.statusWidth + idWidth + 4
    let room = width.map { max(30, $0 - indent) }
    let said = Plain.wrap(Plain.oneLine(summary(of: verdict)), width: room)
    return ["\(word(verdict.status))  \(id)  \(said[0])"]
      + said.dropFirst().map { "\(spaces(indent))\($0)" }
  }

  /// A known deviation is no news: why, and what was seen, on one line.
  private func summary(of verdict: Verdict) -> String {
    guard case .broken(let violations) = verdict.outcome, let excuse = verdict.excuse,
      !report.failing.contains(verdict.status)
    else { return verdict.outcome.summary }
    let seen = violations.first.map { "; seen: \($0.seen)" } ?? ""
    return excuse + seen
  }

  private func proof(_ verdict: Verdict) -> [Line] {
    guard report.failing.contains(verdict.status) else { return [] }
    return report.proof(verdict, most: shown).flatMap(field)
  }

  private func field(_ name: String, _ text: String) -> [Line] {
    let label = Plain.pad(name.isEmpty ? "" : "\(name):", to: 10)
    let room = width.map { max(30, $0 - 14) }
    let wrapped = Plain.wrap(Plain.oneLine(text), width: room)
    return ["    \(label)\(wrapped[0])"]
      + wrapped.dropFirst().map { "\(spaces(14))\($0)" }
  }
}

// What calls for attention.
extension TextReport {
  /// Two topics a line: how many of a topic's rules hold, or are observations, and of how many.
  private func topics(_ digest: Digest) -> [Line] {
    let topics = digest.topics
    let counts = topics.map { topic in
      topic.good == topic.verdicts.count ? "\(topic.good)" : "\(topic.good)/\(topic.verdicts.count)"
    }
    let numbers = counts.map(\.count).max() ?? 0
    let longest = topics.map(\.title.count).max() ?? 0
    // At 80 columns the longest title loses its end.
    let room = min(longest, ((width ?? 120) - 3) / 2 - numbers - 2)
    let half = (topics.count + 1) / 2
    func cell(_ index: Int, isLast: Bool = true) -> Line {
      let title = cut(topics[index].title, to: room)
      let count = spaces(numbers - counts[index].count) + counts[index]
      return "\(paint(count, worst(topics[index])))  \(isLast ? title : Plain.pad(title, to: room))"
    }
    return (0..<half).map { row in
      row + half < topics.count
        ? "\(cell(row, isLast: false))   \(cell(row + half))" : cell(row)
    }
  }

  private func worst(_ topic: Digest.TopicCount) -> Status {
    [.broken, .inconclusive, .known, .differs, .notOwed, .notTested].first { topic.count($0) > 0 }
      ?? .holds
  }

  private func exceptions(_ digest: Digest) -> [Line] {
    let longest = digest.failed.map(\.rule.count).max() ?? 0
    var lines = digest.failed.flatMap { ruleLine($0, idWidth: longest) + proof($0) }
    lines += digest.excused.map { line($0.status, $0.rule, $0.excuse ?? "") }
    for status in [Status.inconclusive, .notTested] {
      lines += digest.groups(status).map { line(status, $0.name, $0.reason) }
    }
    return lines
  }

  /// One line whatever it says: the whole of it is there with --verbose.
  private func line(_ status: Status, _ name: String, _ text: String) -> Line {
    let said = Plain.oneLine("\(name): \(text)")
    let room = width.map { $0 - Self.statusWidth - 2 } ?? said.count
    return "\(word(status))  \(cut(said, to: room))"
  }

  private func cut(_ text: String, to width: Int) -> String {
    text.count <= width ? text : "\(text.prefix(max(1, width - 1)))…"
  }
}

extension TextReport {
  private func spaces(_ count: Int) -> String { String(repeating: " ", count: max(0, count)) }

  private func word(_ status: Status) -> Line {
    paint(Plain.pad(status.label, to: Self.statusWidth), status)
  }

  private func paint(_ text: String, _ status: Status) -> Line {
    guard coloured else { return "\(text)" }
    let code =
      switch status {
      case .holds: "32"
      case .observed: "36"
      case .broken: "1;31"
      case .known, .differs, .notOwed: "33"
      case .notTested: "2"
      case .inconclusive: "1;33"
      }
    return "\u{1b}[\(code)m\(text)\u{1b}[0m"
  }
}
