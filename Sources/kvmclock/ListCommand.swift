import ABIChecker
import ArgumentParser
import Reporting

/// Lists rules.
struct ListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the rules, one a line: id and statement.")

  enum Format: String, ExpressibleByArgument, CaseIterable { case text, markdown }

  @Argument(
    help: "Ids of rules, * and ? allowed; all rules if none is given.",
    completion: RuleSelection.completion)
  var rules: [String] = []

  @Option(help: "text for the terminal; markdown says all about each rule, by topic.")
  var format = Format.text

  func validate() throws { _ = try RuleSelection.rules(rules) }

  func run() throws {
    let rules = try RuleSelection.rules(rules)
    if format == .markdown {
      let ids = Set(rules.map(\.id))
      let topics = Rule.topics.map { topic in
        Topic(topic.title, topic.rules.filter { ids.contains($0.id) })
      }
      return try Output.write(Catalogue.markdown(topics.filter { !$0.rules.isEmpty }))
    }
    let indent = (rules.map(\.id.count).max() ?? 0) + 2
    let lines = rules.map { Layout.item($0.id, $0.statement, indent: indent) }
    try Output.write(lines.joined())
  }
}

/// Explains rules.
struct ExplainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain",
    abstract: "Say what a rule demands, on whose word, and how it is tested.")

  @Argument(
    help: "Ids of rules, * and ? allowed.",
    completion: RuleSelection.completion)
  var rules: [String]

  func validate() throws { _ = try RuleSelection.rules(rules) }

  func run() throws {
    let texts = try RuleSelection.rules(rules).map(explanation)
    try Output.write(texts.joined(separator: "\n"))
  }

  private func explanation(_ rule: Rule) -> String {
    var items = [
      ("rule", rule.statement), ("source", rule.source), ("method", rule.method),
      ("scenarios", rule.scenarios.map(\.rawValue).joined(separator: ", ")),
    ]
    if rule.everywhere { items.append(("also", "judged on the histories of all other scenarios")) }
    let known = KnownDeviation.table.filter { $0.rule == rule.id }
    items += known.map { ("known", $0.sentence) }
    if known.isEmpty { items.append(("known", "no deviation of a shipped kernel")) }
    let lines = items.map { Layout.item("  \($0.0)", $0.1, indent: 13) }
    return "\(rule.id)\n\(lines.joined())"
  }
}

/// Text in two columns.
enum Layout {
  static func item(_ name: String, _ text: String, indent: Int) -> String {
    let room = Output.width.map { max(30, $0 - indent) }
    let lines = Plain.wrap(Plain.oneLine(text), width: room)
    let rest = lines.dropFirst().map { "\n" + Plain.pad("", to: indent) + $0 }
    return Plain.pad(name, to: indent) + lines[0] + rest.joined() + "\n"
  }
}
