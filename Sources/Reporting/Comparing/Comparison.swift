public import ABIChecker

/// What differs between reports, of two kernels, two hosts or a thousand.
public struct Comparison: Sendable {
  public var reports: [SavedReport]
  /// Whether only what differs counts: then a rule that all reports break is no failure.
  public var onlyDifferences: Bool
  /// Whether the first report says what is usual, however many there are.
  public let hasBaseline: Bool
  /// The facts that groups share; empty where groups are reports that say the same of every rule.
  public let by: [Fact]
  /// Short names of the reports, in their order.
  public let names: [String]
  public let rows: [Row]
  /// Reports that say the same of every rule, the largest group first.
  public let groups: [Group]

  /// What reports can be grouped by.
  public enum Fact: String, Sendable, CaseIterable {
    case kernel, backend, cpu, clocksource, microcode
  }

  /// One rule across all reports.
  public struct Row: Sendable {
    /// How the verdicts differ. It does not say whether the rule is broken: `brokenOn` does.
    public enum Change: String, Sendable, Codable {
      /// Broken on a report, and usually not.
      case worse
      /// Usually broken, and on a report not.
      case mended
      case otherwise, alike
    }

    public var rule: String
    public var topic: String?
    public var statement: String?
    /// The verdict of each report; nil where it has none.
    public var words: [Status?]
    /// What is usual: of two reports the first one's verdict, of more the most frequent one.
    public var usual: Status?
    public var change: Change

    /// The reports that break the rule, by their place.
    public var brokenOn: [Int] { words.indices.filter { words[$0] == .broken } }

    public var isBroken: Bool { words.contains(.broken) }
  }

  public struct Group: Sendable {
    /// The reports, by their place.
    public var members: [Int]
    public var words: [Status?]
  }

  /// - Parameters:
  ///   - reports: two or more.
  ///   - hasBaseline: whether all are compared with the first one.
  ///   - by: the facts that groups share.
  public init(
    _ reports: [SavedReport], onlyDifferences: Bool = false, hasBaseline: Bool = false,
    by: [Fact] = []
  ) {
    self.reports = reports
    self.onlyDifferences = onlyDifferences
    self.hasBaseline = hasBaseline
    self.by = by
    names = Self.names(reports.map(\.path))
    let verdicts = reports.map { report in
      Dictionary(report.verdicts.map { ($0.rule, $0) }) { first, _ in first }
    }
    var rules: [SavedReport.Entry] = []
    var known: Set<String> = []
    for report in reports {
      for entry in report.verdicts where known.insert(entry.rule).inserted { rules.append(entry) }
    }
    rows = rules.map { entry in
      let words = verdicts.map { $0[entry.rule]?.verdict }
      let usual = hasBaseline ? words[0] : Self.usual(words)
      return Row(
        rule: entry.rule, topic: entry.topic, statement: entry.statement, words: words,
        usual: usual, change: Self.change(words, from: usual))
    }
    groups = by.isEmpty ? Self.groups(rows, count: reports.count) : Self.groups(rows, reports, by)
  }

  private static func usual(_ words: [Status?]) -> Status? {
    guard words.count > 2 else { return words.first ?? nil }
    var counts: [Status?: Int] = [:]
    for word in words { counts[word, default: 0] += 1 }
    // Of two that are as frequent, the better one is usual.
    return counts.max { ($0.value, rank($1.key)) < ($1.value, rank($0.key)) }?.key ?? nil
  }

  /// The lower the better.
  private static func rank(_ word: Status?) -> Int {
    switch word {
    case .holds: 0
    case .observed: 1
    case .known: 2
    case .notOwed: 3
    case .differs: 4
    case .notTested: 5
    case nil: 6
    case .inconclusive: 7
    case .broken: 8
    }
  }

  private static func change(_ words: [Status?], from usual: Status?) -> Row.Change {
    let others = words.filter { $0 != usual }
    if others.isEmpty { return .alike }
    if usual != .broken, others.contains(.broken) { return .worse }
    return usual == .broken ? .mended : .otherwise
  }

  private static func groups(_ rows: [Row], count: Int) -> [Group] {
    var groups: [[Status?]: [Int]] = [:]
    for index in 0..<count { groups[rows.map { $0.words[index] }, default: []].append(index) }
    return groups.map { Group(members: $0.value, words: $0.key) }.sorted {
      ($1.members.count, $0.members[0]) < ($0.members.count, $1.members[0])
    }
  }

  /// Reports with the same facts; of their verdicts on a rule the worst counts.
  private static func groups(
    _ rows: [Row], _ reports: [SavedReport], _ by: [Fact]
  ) -> [Group] {
    let members = Dictionary(grouping: reports.indices) { index in
      by.map { reports[index].value(of: $0) }
    }
    return members.values.map { members in
      Group(
        members: members,
        words: rows.map { row in members.map { row.words[$0] }.max { rank($0) < rank($1) } ?? nil })
    }.sorted { ($1.members.count, $0.members[0]) < ($0.members.count, $1.members[0]) }
  }

  /// The names of the files without their ending; whole paths where that tells them not apart.
  private static func names(_ paths: [String]) -> [String] {
    let short = paths.map { path -> String in
      let name = path.split(separator: "/").last.map(String.init) ?? path
      return name.hasSuffix(".json") ? String(name.dropLast(5)) : name
    }
    return Set(short).count == paths.count ? short : paths
  }
}

extension Comparison {
  func count(_ change: Row.Change) -> Int { rows.count { $0.change == change } }

  /// What is listed: rules that a report breaks, and then others that differ. A rule that all reports break is left
  /// out where only differences count.
  var listed: [Row] {
    let shown = onlyDifferences ? rows.filter { $0.change != .alike } : rows
    let broken = shown.filter(\.isBroken)
    return broken.filter { $0.change == .worse } + broken.filter { $0.change != .worse }
      + shown.filter { !$0.isBroken && $0.change != .alike }
  }

  /// The reports that break a rule, or say that no guest runs, by their place.
  var brokenReports: [Int] {
    reports.indices.filter { index in
      reports[index].noGuestRuns != nil || rows.contains { $0.words[index] == .broken }
    }
  }

  /// 1 if a report breaks a rule or no guest runs, else 2 if a report tested nothing, else 0; where only differences
  /// count, 1 if a report breaks a rule that is usually not broken.
  public var exitCode: Int32 {
    guard !onlyDifferences else { return count(.worse) > 0 ? 1 : 0 }
    return !brokenReports.isEmpty ? 1 : reports.contains(where: \.isEmpty) ? 2 : 0
  }

  /// What no verdict on a rule shows: the reports on which no guest runs, and those that tested nothing.
  var reservations: [String] {
    let lost = reports.indices.filter { reports[$0].noGuestRuns != nil }
    let empty = reports.indices.filter { reports[$0].isEmpty }
    return (lost.isEmpty ? [] : ["No guest runs on \(named(lost))"])
      + (empty.isEmpty ? [] : ["Nothing was tested on \(named(empty))"])
  }

  /// "140 rules in 2 reports: 2 broken, 1 differs, 137 alike".
  var summary: String {
    let broken = rows.count(where: \.isBroken)
    let others = rows.filter { !$0.isBroken }
    let alike = others.count { $0.change == .alike }
    let differing = others.count - alike
    return "\(Digest.counted(rows.count, "rule")) in \(Digest.counted(reports.count, "report")): "
      + "\(broken) broken, \(differing) \(differing == 1 ? "differs" : "differ"), \(alike) alike"
  }

  /// The answer in a few words: how many reports are broken, then what differs.
  var headline: String {
    guard !onlyDifferences else { return difference }
    let broken = brokenReports.count
    guard broken > 0 else {
      return rows.count == count(.alike)
        ? "No rule is broken, and no verdict differs" : "No rule is broken"
    }
    let rules = rows.count(where: \.isBroken)
    return "BROKEN on \(broken) of \(reports.count) reports"
      + (rules > 0 ? ": \(Digest.counted(rules, "rule"))" : "")
  }

  /// What differs, in a few words.
  var difference: String {
    if count(.worse) > 0 {
      let rules = Digest.counted(count(.worse), "rule")
      return reports.count == 2
        ? "\(names[1]) breaks \(rules) that \(names[0]) does not"
        : hasBaseline
          ? "\(rules) broken on some that \(names[0]) does not break"
          : "\(rules) broken on some and not on most"
    }
    return rows.count == count(.alike) ? "No verdict differs" : "Nothing is newly broken"
  }

  /// The verdicts on a rule, the most frequent first, with the reports that have them.
  func verdicts(_ row: Row) -> [(word: Status?, members: [Int])] {
    var members: [Status?: [Int]] = [:]
    for (index, word) in row.words.enumerated() { members[word, default: []].append(index) }
    return members.map { (word: $0.key, members: $0.value) }.sorted {
      ($1.members.count, $0.members[0]) < ($0.members.count, $1.members[0])
    }
  }

  /// "node1, node2, node3 and 4 more".
  func named(_ members: [Int], most: Int = 3) -> String {
    let shown = members.prefix(most).map { Plain.oneLine(names[$0]) }.joined(separator: ", ")
    return members.count <= most ? shown : "\(shown) and \(members.count - most) more"
  }

  /// What the first report that breaks a rule saw.
  func seen(_ row: Row) -> String? {
    guard let index = row.words.firstIndex(of: .broken) else { return nil }
    let entry = reports[index].verdicts.first { $0.rule == row.rule }
    return (entry?.violations?.first?.seen).map { Plain.oneLine($0, limit: 300) }
  }

  /// "holds on a, b; BROKEN on c".
  func sentence(_ row: Row) -> String {
    verdicts(row).map { verdict in
      let word = Self.label(verdict.word)
      let count = verdict.members.count > 3 ? "\(verdict.members.count): " : ""
      return "\(word) on \(count)\(named(verdict.members))"
    }.joined(separator: "; ")
  }

  static func label(_ word: Status?) -> String {
    word?.label ?? "not judged"
  }

  /// The facts of some reports, each value with the number of reports that have it where they differ.
  func facts(_ members: [Int]) -> String {
    let shown = Fact.allCases.filter { $0 != .microcode || by.contains($0) }
    let parts = shown.compactMap { fact -> String? in
      let values = Dictionary(grouping: members) { reports[$0].value(of: fact) }
        .map { (value: $0.key, count: $0.value.count) }
        .sorted { ($1.count, $0.value) < ($0.count, $1.value) }
      guard values.count > 1 else {
        return values.first.map(\.value).flatMap { $0 == "unknown" && fact == .cpu ? nil : $0 }
      }
      let most = 4
      let rest = values.count > most ? " and \(values.count - most) others" : ""
      return values.prefix(most).map { "\($0.count) × \($0.value)" }.joined(separator: ", ") + rest
    }
    let clocks = Set(members.compactMap { reports[$0].host.clock }).sorted().map { "clock: \($0)" }
    let host = members.count == 1 ? reports[members[0]].hostname.map { [$0] } ?? [] : []
    return Plain.oneLine((parts + clocks + host).joined(separator: "; "), limit: 500)
  }
}

extension SavedReport {
  func value(of fact: Comparison.Fact) -> String {
    switch fact {
    case .kernel: "Linux \(host.kernel)"
    case .backend: host.backend ?? "unknown backend"
    case .cpu: host.machine?.cpu ?? "unknown"
    case .clocksource: "clocksource \(host.clocksource ?? "unknown")"
    case .microcode: "microcode \(host.machine?.microcode ?? "unknown")"
    }
  }
}
