import ABIChecker
import ArgumentParser
import Glibc

/// Which rules and scenarios a command is for.
struct RuleChoice: ParsableArguments {
  @Argument(
    help: "Ids of rules, * and ? allowed; all rules if none is given.",
    completion: RuleSelection.completion)
  var rules: [String] = []

  @Option(
    help: ArgumentHelp(
      "Only this scenario, and the rules that it can judge. May be given several times.",
      valueName: "name"),
    completion: .list(RuleSelection.scenarios.map(\.rawValue)))
  var scenario: [String] = []

  @Option(
    help: ArgumentHelp(
      "Only rules of topics whose title contains this text. May be given several times.",
      valueName: "text"),
    completion: .list(Rule.topics.map(\.title)))
  var topic: [String] = []

  @Option(
    help: ArgumentHelp(
      "Leave out these rules, * and ? allowed. May be given several times.", valueName: "rule"),
    completion: RuleSelection.completion)
  var exclude: [String] = []

  /// The scenarios that were named; nil for whatever exercises the rules.
  var scenarios: Set<ScenarioName>? {
    scenario.isEmpty ? nil : Set(scenario.compactMap(ScenarioName.init(rawValue:)))
  }

  /// - Throws: `ValidationError` with near misses, where something names nothing.
  func selected(ofVMMs: Bool = false) throws -> [Rule] {
    for name in scenario where !RuleSelection.scenarios.contains(where: { $0.rawValue == name }) {
      throw ValidationError(
        "there is no scenario '\(name)'. `kvmclock run --dry-run` shows all.")
    }
    for text in topic where !Rule.topics.contains(where: { Self.matches($0, text) }) {
      throw ValidationError(
        "no topic's title contains '\(text)'. The topics are: "
          + Rule.topics.map(\.title).joined(separator: "; ") + ".")
    }
    let excluded = Set(
      exclude.isEmpty ? [] : try RuleSelection.rules(exclude).map(\.id))
    let topics = Rule.topics.filter { one in topic.contains { Self.matches(one, $0) } }
    let ofTopics = Set(topics.flatMap(\.rules).map(\.id))
    let found =
      ofVMMs ? try RuleSelection.rules(rules) : try RuleSelection.rulesOfKVM(rules)
    let chosen = found.filter { rule in
      !excluded.contains(rule.id) && (topic.isEmpty || ofTopics.contains(rule.id))
        && (scenario.isEmpty || scenario.contains { rule.concerns($0) })
    }
    guard chosen.isEmpty else { return chosen }
    throw ValidationError("these options leave no rule.")
  }

  private static func matches(_ topic: Topic, _ text: String) -> Bool {
    topic.title.lowercased().contains(text.lowercased())
  }
}

/// Which rules the user means.
enum RuleSelection {
  /// What a shell offers where an id is due.
  static let completion = CompletionKind.list(Rule.all.map(\.id))

  /// Those that `run` can run.
  static let scenarios = ScenarioName.allCases.filter { !$0.isOfVMMs }

  /// The same among those that a run on KVM alone judges.
  static func rulesOfKVM(_ patterns: [String]) throws -> [Rule] {
    let found = try rules(patterns).filter { !$0.isOfVMMs }
    guard found.isEmpty, let pattern = patterns.first else { return found }
    throw ValidationError("'\(pattern)' is about VMMs: `kvmclock vmm qemu` judges it.")
  }

  /// The rules that match any of the patterns, in the catalogue's order; all of them without a pattern.
  ///
  /// - Throws: `ValidationError` naming the rules that come near, where a pattern matches nothing.
  static func rules(_ patterns: [String]) throws -> [Rule] {
    for pattern in patterns where !Rule.all.contains(where: { matches($0.id, pattern) }) {
      throw ValidationError(complaint(pattern))
    }
    return patterns.isEmpty
      ? Rule.all : Rule.all.filter { rule in patterns.contains { matches(rule.id, $0) } }
  }

  private static func complaint(_ pattern: String) -> String {
    let isGlob = pattern.contains { $0 == "*" || $0 == "?" }
    let problem = isGlob ? "no rule matches '\(pattern)'" : "there is no rule '\(pattern)'"
    let near = nearMisses(pattern)
    let hint = near.isEmpty ? "" : " Did you mean \(near.joined(separator: ", "))?"
    return "\(problem).\(hint) `kvmclock list` shows all rules."
  }

  /// Whether a text matches a pattern in which `*` stands for any characters and `?` for one.
  static func matches(_ text: String, _ pattern: String) -> Bool {
    fnmatch(pattern.uppercased(), text.uppercased(), FNM_NOESCAPE) == 0
  }

  /// The rules whose id contains the text, else those a few keystrokes away.
  private static func nearMisses(_ pattern: String) -> [String] {
    let wanted = String(pattern.uppercased().filter { $0 != "*" && $0 != "?" }.prefix(64))
    guard !wanted.isEmpty else { return [] }
    let containing = Rule.all.map(\.id).filter { $0.contains(wanted) }
    if !containing.isEmpty { return Array(containing.prefix(3)) }
    let ranked = Rule.all.map { (id: $0.id, distance: distance($0.id, wanted)) }
    return ranked.filter { $0.distance * 2 <= $0.id.count }
      .sorted { $0.distance < $1.distance }.prefix(3).map(\.id)
  }

  /// The fewest characters to insert, delete or replace (Levenshtein's distance).
  private static func distance(_ left: String, _ right: String) -> Int {
    let right = Array(right)
    var row = Array(0...right.count)
    for (number, character) in left.enumerated() {
      var diagonal = row[0]
      row[0] = number + 1
      for column in right.indices {
        let replaced = diagonal + (right[column] == character ? 0 : 1)
        diagonal = row[column + 1]
        row[column + 1] = min(replaced, diagonal + 1, row[column] + 1)
      }
    }
    return row[right.count]
  }
}
