import ABIChecker
import PVClock

@testable import Reporting

/// A history of two vCPUs whose clock is exact, or off by what a test asks for.
struct RunningClock {
  /// The host's TSC runs at 2 GHz; CLOCK_MONOTONIC_RAW gains this much on it, in parts per billion.
  var drift = 0.0
  /// By how much the guests' TSC is ahead of the host's.
  var tscOffset: Int64 = 0
  /// Nanoseconds by which vcpu1's clock is ahead of vcpu0's.
  var apart: UInt64 = 0
  var readings = 20
  var scenario = "rewrite"
  /// The readings, from 0, from which on the clock is behind, and by how much.
  var stepAt = Int.max
  var step: UInt64 = 0
  var flags: (Int) -> ClockPage.Flags = { _ in .tscStable }

  func raw(_ tsc: UInt64) -> UInt64 {
    let nanoseconds = Double(tsc) / 2
    return UInt64(nanoseconds + nanoseconds * drift / 1e9) + 5_000_000
  }

  var history: History {
    var header = Samples.header
    header.scenario = scenario
    var events = [
      event(1, .host, at: 1_000_000, .vmCreated),
      event(2, .vcpu(0), at: 1_500_000, .wroteMSR(msr: 0x4b56_4d01, value: 0x1001, fault: nil)),
    ]
    for index in 0..<readings {
      let tsc = 2_000_000 + UInt64(index) * 2_000_000
      let vcpu = index % 2
      let behind = index >= stepAt ? step : 0
      let guest = UInt64(bitPattern: Int64(bitPattern: tsc + 10_000) + tscOffset)
      let page = ClockPage(
        version: UInt32(2 + 2 * (index / 4)),
        tscTimestamp: UInt64(bitPattern: 1_000_000 + tscOffset),
        systemTime: 500_000 &- behind &+ (vcpu == 1 ? apart : 0),
        tscToSystemMultiplier: 1 << 31, tscShift: 0, flags: flags(index))
      events.append(
        event(
          events.count + 1, .vcpu(vcpu), at: tsc,
          .read(
            address: vcpu == 0 ? 0x1000 : 0x2000, ring: 0, reading: Reading(tsc: guest, page: page),
            settled: true)))
    }
    return History(header: header, events: events)
  }

  /// Each action takes 10 µs; CLOCK_MONOTONIC_RAW is read 20 ns outside of the TSC.
  private func event(_ number: Int, _ actor: Actor, at tsc: UInt64, _ action: Action) -> Event {
    Event(
      number: number, actor: actor, began: Instant(tsc: tsc, raw: raw(tsc) - 20),
      ended: Instant(tsc: tsc + 20_000, raw: raw(tsc + 20_000) + 20), action: action)
  }
}
