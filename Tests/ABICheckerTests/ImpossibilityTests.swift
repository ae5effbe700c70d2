import ABIChecker
import PVClock
import Testing

/// Histories of what cannot have happened blame nobody.
@Suite struct ImpossibilityTests {
  private let host = HostFacts(
    kernel: "6.12.0", backend: "kvm_amd", clocksource: "tsc", tscKHz: 2_000_000)

  /// A history of one event a microsecond; each may say otherwise when it was.
  private func history(
    _ events: [(Action, raw: ClosedRange<UInt64>?)], on host: HostFacts? = nil,
    scenario: String = "version"
  ) -> History {
    History(
      header: Header(scenario: scenario, seed: 1, host: host ?? self.host),
      events: events.enumerated().map { index, event in
        let at = UInt64(index + 10) * 1000
        let raw = event.raw ?? at...at + 10
        return Event(
          number: index + 1, actor: .host,
          began: Instant(tsc: raw.lowerBound * 2, raw: raw.lowerBound),
          ended: Instant(tsc: raw.upperBound * 2, raw: raw.upperBound), action: event.0)
      })
  }

  private let page = Action.page(vcpu: 0, address: 0x2000, page: ClockPage(version: 2))
  private let made: [(Action, raw: ClosedRange<UInt64>?)] = [
    (.vmCreated, nil), (.vcpuCreated(vcpu: 0), nil),
  ]

  @Test func `what a host can do is taken`() {
    #expect(history(made + [(page, nil)]).impossibility == nil)
    // A loop that ran beside the event before it.
    #expect(
      history(made + [(page, 20_000...30_000), (page, 11_000...31_000)]).impossibility == nil)
    // What the host can tell without a machine.
    #expect(history([(.lacking(what: "a", evidence: "b"), nil)]).impossibility == nil)
  }

  @Test func `a vCPU that nothing made does nothing`() {
    let none = history([(page, nil)]).impossibility
    #expect(none?.event == 1)
    #expect(none?.reason == "vcpu0 has no machine: none was made")
    let other = history(made + [(.tscOffset(vcpu: 1, cycles: 0), nil)])
      .impossibility
    #expect(other?.event == 3)
    #expect(other?.reason == "vcpu1 was not made before")
    // A new machine has none of the vCPUs of the one before.
    #expect(history(made + [(.vmCreated, nil), (page, nil)]).impossibility?.event == 4)
  }

  @Test func `a VMM's vCPUs are made out of sight, and those around a process in a guest`() {
    var vmm = host
    vmm.vmm = "qemu 7.2"
    #expect(history([(page, nil)], on: vmm).impossibility == nil)
    #expect(history([(page, nil)], scenario: Header.insideScenario).impossibility == nil)
  }

  @Test func `time does not run backwards`() {
    let swapped = history(made + [(page, 30_000...30_010), (page, 20_000...20_010)]).impossibility
    #expect(swapped?.event == 4)
    #expect(
      swapped?.reason.hasPrefix(
        "event 4 ended at 20010 ns, and event 3, before it, began at 30000 ns") == true)
    var events = history(made + [(page, nil)])
    events.events[2].ended.raw = 0
    #expect(events.impossibility?.reason == "event 3 ended before it began")
  }

  /// A reader of hpet may be given what another one found before; on one thread time goes on.
  @Test(arguments: ["hpet", "tsc, changed meanwhile"])
  func `without the TSC only one thread's readings are in order`(clocksource: String) {
    var other = host
    other.clocksource = clocksource == "hpet" ? "hpet" : "tsc"
    let change: [(Action, raw: ClosedRange<UInt64>?)] =
      clocksource == "hpet"
      ? [] : [(.hostChanged(what: "clocksource", value: "hpet", error: nil), nil)]
    var events = history(
      made + change + [(page, 30_000...30_010), (page, 20_000...20_010)], on: other)
    #expect(events.impossibility?.event == events.events.count)
    events.events[events.events.count - 1].actor = .vcpu(0)
    #expect(events.impossibility == nil)
    events.header.host = host
    #expect((events.impossibility == nil) == !change.isEmpty)
  }

  /// vCPU 1's thread got a CPU only when vCPU 0's storm was over; the storms are written down after both.
  @Test func `what ran beside others may have ended before they began`() {
    let storm = Action.stormed(msr: 0x12, writes: 60, versions: 59)
    var events = history(
      made + [(.vcpuCreated(vcpu: 1), nil), (storm, 30_000...40_000), (storm, 20_000...25_000)])
    events.events[3].actor = .vcpu(1)
    events.events[4].actor = .vcpu(0)
    #expect(events.impossibility == nil)
    // One thread cannot have done both.
    events.events[3].actor = .vcpu(0)
    #expect(events.impossibility?.event == 5)
  }

  @Test func `a header alone is no history, nor one of a host whose TSC stands still`() {
    #expect(history([]).impossibility?.reason == "nothing was done")
    var stopped = host
    stopped.tscKHz = 0
    #expect(history(made, on: stopped).impossibility?.reason == "the host's TSC has 0 kHz")
  }
}
