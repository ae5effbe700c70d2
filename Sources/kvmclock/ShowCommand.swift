import ABIChecker
import ArgumentParser
import Reporting

/// Shows what a history holds.
struct ShowCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Show the events of a history as a table, with the clock that the guest computes.",
    discussion: """
      Each value of the clock stands beside its advance since the value before and that of \
      CLOCK_MONOTONIC_RAW. > marks the events that prove a rule broken, ! an advance that \
      CLOCK_MONOTONIC_RAW does not allow.
      """)

  @Argument(
    help: ArgumentHelp("A file that `--history` kept.", valueName: "history"), completion: .file())
  var path: String

  @Option(help: ArgumentHelp("Only these events.", valueName: "a-b"))
  var events: EventRange?

  @Option(
    help: ArgumentHelp(
      "Only the events that prove this rule broken and their neighbours, and what is wrong.",
      valueName: "rule"),
    completion: RuleSelection.completion)
  var rule: String?

  func validate() throws {
    if let rule { _ = try RuleSelection.rules([rule]) }
  }

  func run() throws {
    let saved: SavedHistory
    do { saved = try HistoryFile.read(path) } catch { throw Failure(error) }
    if let truncated = saved.truncated { Output.complain("kvmclock: \(truncated)") }
    let rules = try rule.map { try RuleSelection.rules([$0]) }
    let texts = (rules ?? []).map {
      EventTable.text(saved.history, range: events?.numbers, rule: $0)
    }
    try Output.write(
      texts.isEmpty
        ? EventTable.text(saved.history, range: events?.numbers)
        : texts.joined(separator: "\n"))
  }
}

/// "12-16", or one number.
struct EventRange: ExpressibleByArgument {
  var numbers: ClosedRange<Int>

  init?(argument: String) {
    let ends = argument.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
    guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1],
      first >= 1, last >= first
    else { return nil }
    numbers = first...last
  }
}
