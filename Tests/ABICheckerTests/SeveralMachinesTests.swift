import Testing

@testable import ABIChecker

/// Machines that live at the same time: nothing that one does is taken for the other's.
@Suite struct SeveralMachinesTests {
  static func history(_ machines: (inout HistoryBuilder) -> Void...) -> History {
    HonestWalkTests.together(
      machines.map { steps in
        var host = HistoryBuilder(.freeze)
        host.machine(0, 1)
        steps(&host)
        return host.history
      })
  }

  /// vCPU 0 gives its record up, the clock is set, and only vCPU 1 enters.
  static func givenUp(_ host: inout HistoryBuilder) {
    for id in [0, 1] { host.register(id) }
    for value: UInt64 in [0x10000, 0] {
      host.run(0, .write(MSR.systemTime, 0x10001))
      host.run(0, .write(MSR.systemTime, value))
      for id in [0, 1] { host.look(id, at: UInt64(0x10000 + id * 0x1000)) }
      host.setClock(3_600_000_000_000)
      host.enter(1)
      for id in [0, 1] { host.look(id, at: UInt64(0x10000 + id * 0x1000)) }
    }
  }

  @Test func anEntryOfTheOthersVCPUIsNoEntry() throws {
    let entries: (inout HistoryBuilder) -> Void = { host in
      for _ in 0..<60 { host.enter(0) }
    }
    try expectNotTested(
      "SYSTIME-DISABLE-FREEZES", Self.history(Self.givenUp, entries), "vcpu0 was not entered")
  }

  @Test func memoryThatTheOtherFilledIsNotFilled() throws {
    let history = Self.history(
      { host in
        host.wait(milliseconds: 1)
        for id in [0, 1] { host.register(id) }
      },
      { host in
        for id in [0, 1] { host.fill(UInt64(0x10000 + id * 0x1000), count: 32) }
      })
    try expectNotTested("SYSTIME-ENABLE", history, "saw 0")
  }

  @Test func aSettingOfTheOthersClockIsNone() {
    let timeline = Timeline(
      Self.history(
        { host in
          host.register(0)
          host.wait(milliseconds: 5)
          host.read(0)
        },
        { host in
          host.wait(milliseconds: 2)
          host.setClock(7)
        }))
    #expect(timeline.machines.map { $0.steps.last?.machine.settings } == [0, 1])
    let readings = timeline.observations.filter { $0.vcpu == 0 }
    #expect(readings.count == 2 && readings[0].epoch == readings[1].epoch)
  }

  /// Without a name a machine takes the place of those before it.
  @Test func aMachineWithoutANameEndsTheOthers() {
    var host = HistoryBuilder()
    for _ in 0..<2 { host.machine(0) }
    host.host(.hostClock(name: "CLOCK_BOOTTIME", nanoseconds: 1))
    let machines = Timeline(host.history).machines
    #expect(machines.count == 2)
    #expect(machines.map(\.steps.count).reduce(0, +) == host.events.count)
  }
}
