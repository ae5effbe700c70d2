import PVClock
import Testing

@testable import ABIChecker

@Suite struct LeadTests {
  /// Without the master clock: register in an entry of `made` ns, then read in one of `read` ns.
  static func observations(
    made: UInt64, read: UInt64, moves: Bool, _ between: (inout HistoryBuilder) -> Void = { _ in }
  ) -> [Observation] {
    var host = HistoryBuilder(source: .hpet)
    host.movesBetweenCPUs = moves
    host.machine(0, 1)
    host.bracket = made
    host.register(0)
    host.bracket = read
    between(&host)
    host.read(0)
    return Timeline(host.history).observations
  }

  /// A bracket takes a little longer than its width: the steps inside take time, too.
  static func covers(_ lead: Int128, _ width: UInt64) -> Bool {
    (Int128(width)...Int128(width) + 2000).contains(lead)
  }

  @Test func aRecordRunsAheadByTheEntryThatMadeIt() {
    let kept = Self.observations(made: 900_000, read: 5_000, moves: false)
    #expect(kept.count == 2 && kept.allSatisfy { Self.covers($0.lead, 900_000) })
    let renewed = Self.observations(made: 900_000, read: 5_000, moves: true)
    #expect(Self.covers(renewed[0].lead, 900_000) && Self.covers(renewed[1].lead, 5_000))
  }

  /// The record that is read now may have been made in any entry since it was last seen.
  @Test func anEntryInWhichNothingWasSeenMayHaveMadeIt() {
    let all = Self.observations(made: 1_000, read: 2_000, moves: true) { host in
      host.bracket = 700_000
      host.enter(0)
      host.bracket = 2_000
      host.enter(0)
    }
    #expect(Self.covers(all[1].lead, 700_000))
  }

  @Test func aLookByTheHostTellsWhichEntryMadeIt() {
    let all = Self.observations(made: 1_000, read: 2_000, moves: false) { host in
      host.bracket = 700_000
      host.enter(0)
      host.look(0)
      host.vcpus[0]?.wantsRecord = true
      host.bracket = 2_000
    }
    #expect(Self.covers(all[1].lead, 2_000))
  }

  @Test func anotherVCPUsEntryIsNotItsOwn() {
    let all = Self.observations(made: 1_000, read: 2_000, moves: true) { host in
      host.bracket = 700_000
      host.enter(1)
      host.bracket = 2_000
    }
    #expect(Self.covers(all[1].lead, 2_000))
  }

  @Test func withTheMasterClockThereIsNone() {
    var host = HistoryBuilder()
    host.machine(0)
    host.bracket = 900_000
    host.register(0)
    host.getClock()
    #expect(Timeline(host.history).observations.map(\.lead) == [0, 0])
  }

  @Test func theLastReadingOfALoopIsOfARecordMadeInIt() {
    let all = Self.observations(made: 1_000, read: 2_000, moves: true) { host in
      host.loop(0, milliseconds: 4)
    }
    #expect(all.count == 4 && all[1].lead >= 4_000_000 && all[2].lead >= 4_000_000)
    #expect(Self.covers(all[3].lead, 2_000))
  }
}

@Suite struct TimelineTests {
  @Test func machinesAndSettingsMakeEpochs() {
    var host = HistoryBuilder()
    host.machine(0)
    host.register(0)
    host.getClock()
    host.setClock(1)
    host.read(0)
    host.machine(0)
    host.register(0)
    let epochs = Timeline(host.history).observations.map(\.epoch)
    #expect(epochs == [1, 1, 2, 3])
  }

  @Test func whatDidNotSettleIsNoObservation() {
    var host = HistoryBuilder()
    host.machine(0)
    let reading = Reading(tsc: 5, page: ClockPage(version: 1))
    host.bracketed(.vcpu(0)) { _ in
      [.read(address: 0, ring: 0, reading: reading, settled: false)]
    }
    #expect(Timeline(host.history).observations.isEmpty)
    #expect(Timeline(host.history).pages.isEmpty)
    #expect(Timeline(host.history).writtenPages.count == 1)
  }

  @Test(arguments: [0, 0xa5] as [UInt8])
  func whatNoHostWroteIsNoRecord(byte: UInt8) throws {
    var host = HistoryBuilder()
    host.machine(0)
    let page = try #require(ClockPage(bytes: [UInt8](repeating: byte, count: 32)))
    host.host(.page(vcpu: 0, address: 0x10000, page: page))
    #expect(Timeline(host.history).writtenPages.isEmpty)
  }

  @Test func theFirstFailureAndTheFirstLackCount() {
    var host = HistoryBuilder()
    host.host(.lacking(what: "a", evidence: "b"))
    host.host(.lacking(what: "c", evidence: "d"))
    host.host(.failed(reason: "e"))
    host.host(.failed(reason: "f"))
    let timeline = Timeline(host.history)
    #expect(timeline.lacking == "a: b" && timeline.failure == "e")
  }

  @Test func theAllowedAdvanceIsTheBracketsAndWhatIsAdded() {
    var host = HistoryBuilder()
    host.machine(0)
    host.register(0)
    host.wait(milliseconds: 1000)
    host.read(0)
    let timeline = Timeline(host.history)
    let (before, after) = (timeline.observations[0], timeline.observations[1])
    let elapsed = before.event.elapsed(to: after.event)
    let slack = timeline.drift(until: after) + 4
    #expect((255...257).contains(slack))
    #expect(
      timeline.allowedAdvance(from: before, to: after)
        == Interval(elapsed.lower - slack, elapsed.upper + slack))
  }

  @Test func readingsAroundASeparatorAreTheNearest() {
    var host = HistoryBuilder()
    host.machine(0, 1)
    for id in [0, 0, 1, 0] { host.register(id) }
    host.replug(0)
    host.enter(0)
    host.read(1)
    for _ in 0..<2 { host.register(0) }
    let timeline = Timeline(host.history)
    let found = timeline.readings { step in
      if case .replugged(let vcpu, _) = step.event.action { vcpu } else { nil }
    }
    let own = timeline.observations.filter { $0.vcpu == 0 }
    #expect(found.count == 1)
    #expect(found[0].before.index == own[2].index && found[0].after.index == own[3].index)
  }
}
