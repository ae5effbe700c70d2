import ABIChecker
import ArgumentParser
import HostModel
import Reporting

/// Lists rules.
struct ListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the rules, one a line: id and statement.")

  enum Format: String, ExpressibleByArgument, CaseIterable { case text, markdown, json }

  @OptionGroup var choice: RuleChoice

  @Option(help: "text for the terminal; markdown and json say all about each rule.")
  var format = Format.text

  func validate() throws { _ = try choice.selected(ofVMMs: true) }

  func run() throws {
    let rules = try choice.selected(ofVMMs: true)
    if format == .json { return try Output.write(Catalogue.json(rules, faults: Fault.meanings)) }
    if format == .markdown {
      let ids = Set(rules.map(\.id))
      let topics = Rule.topics.map { topic in
        Topic(topic.title, topic.rules.filter { ids.contains($0.id) })
      }
      return try Output.write(
        Catalogue.markdown(topics.filter { !$0.rules.isEmpty }, faults: Fault.meanings))
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
    abstract: "Show what a rule checks, its sources, the method and the coverage.")

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
    var items = [("rule", rule.statement)]
    items += Catalogue.items(rule, faults: Fault.meanings[rule.id] ?? [])
      .map { ($0.0.lowercased(), $0.1) }
    if Rule.neverSeenToFail.contains(rule.id) {
      items.append(
        (
          "fails on",
          "nothing so far: no fault, no mutated kernel and no shipped kernel is known to break it"
        ))
    }
    let indent = 4 + (items.map(\.0.count).max() ?? 0)
    let lines = items.map { Layout.item("  \($0.0)", $0.1, indent: indent) }
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
