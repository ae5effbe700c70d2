import Foundation
import PVClock
import Testing

@testable import ABIChecker

/// A history may come from anywhere: no number in it may end the process. A trap fails the whole run; the seed is
/// printed before.
@Suite struct FuzzTests {
  static func judge(_ history: History, by rules: [Rule] = Rule.all) {
    let timeline = Timeline(history)
    for rule in rules { _ = rule.judge(timeline) }
  }

  @Test func anyHistoryIsJudged() {
    var generator = HistoryGenerator(random: SeededGenerator())
    for _ in 0..<500 { Self.judge(generator.history()) }
  }

  @Test func anyHistoryFromInsideAGuestIsJudged() {
    var random = SeededGenerator(for: "anyHistoryFromInsideAGuestIsJudged")
    var generator = HistoryGenerator(random: SeededGenerator())
    let rules = Rule.all.filter { $0.inside != nil }
    for _ in 0..<250 {
      var history = generator.history()
      history.header.scenario = Header.insideScenario
      if random.below(2) == 0 { history.header.host.clocksource = "kvm-clock" }
      Self.judge(history, by: rules)
      _ = InsideFigures(Timeline(history))
    }
  }

  @Test(arguments: ScenarioName.allCases)
  func aMutatedHistoryIsJudged(scenario: ScenarioName) throws {
    var random = SeededGenerator(for: "aMutatedHistoryIsJudged \(scenario.rawValue)")
    let rules = Rule.all.filter { $0.concerns(scenario.rawValue) }
    for round in 0..<15 {
      let source = SimulatedTime.Source.allCases[round % 3]
      var history = Script.history(of: scenario, source: source)
      for _ in 0...random.below(4) { try Self.mutate(&history, &random) }
      Self.judge(history, by: rules)
    }
  }

  /// Memory that wraps around the end of the address space, a byte beyond the record changed.
  @Test func memoryAtTheEndOfTheAddressSpaceIsJudged() {
    for back in stride(from: 100 as UInt64, to: 200, by: 2) {
      var host = HistoryBuilder()
      host.machine(0)
      let start = 0 &- back
      host.host(.filled(address: Hex(start), count: .max, byte: 0xa5))
      host.run(0, .write(MSR.systemTime, (start &+ 64) | 1))
      var bytes = [UInt8](repeating: 0xa5, count: 300)
      bytes[299] = 0
      host.host(.memory(address: Hex(start), bytes: HexBytes(bytes)))
      Self.judge(host.history)
    }
  }

  private static func mutate(_ history: inout History, _ random: inout SeededGenerator) throws {
    guard !history.events.isEmpty else { return }
    let at = random.below(history.events.count)
    let other = random.below(history.events.count)
    switch random.below(7) {
    case 0: history.events.remove(at: at)
    case 1: history.events.swapAt(at, other)
    case 2: history.events.insert(history.events[at], at: other)
    case 3: history.events.removeSubrange(min(at, other)...max(at, other))
    default: history.events[at] = try flipped(history.events[at], &random)
    }
  }

  /// The event as it is saved, with a bit flipped in one of its numbers; as it was if that can't be read.
  private static func flipped(_ event: Event, _ random: inout SeededGenerator) throws -> Event {
    let text = [UInt8](try JSONEncoder().encode(event))
    func isDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) }
    let starts = text.indices.filter { isDigit(text[$0]) && ($0 == 0 || !isDigit(text[$0 - 1])) }
    guard !starts.isEmpty else { return event }
    let start = random.pick(starts)
    let end = text[start...].firstIndex { !isDigit($0) } ?? text.endIndex
    guard let number = UInt64(String(decoding: text[start..<end], as: UTF8.self)) else {
      return event
    }
    let changed = number ^ (1 << UInt64(random.below(64)))
    let mutated = text[..<start] + Array(String(changed).utf8) + text[end...]
    return (try? JSONDecoder().decode(Event.self, from: Data(mutated))) ?? event
  }
}
