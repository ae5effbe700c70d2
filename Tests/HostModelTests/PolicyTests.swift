import ABIChecker
import PVClock
import Testing

@testable import HostModel

/// What a policy makes of a write, and the wall clock, on simulated clocks.
@Suite struct PolicyTests {
  /// Whether a guest's write on a vCPU restarts time.
  private func restarts(
    _ policy: Policy, _ msr: UInt32 = MSR.systemTime, vcpu: Int = 0, asking: Bool = false,
    byHost: Bool = false
  ) -> Bool {
    var vm = SimulatedVM(policy: policy)
    vm.time.pass(1_000_000)
    let value: UInt64 = 0x1001 | (asking ? DiscussionGuest.optInRequest : 0)
    _ = vm.clock.write(msr, value, vcpu, byHost: byHost)
    vm.enter(vcpu)
    return vm.clock.get().clock < 1000
  }

  @Test func keepNeverRestarts() {
    for asking in [false, true] { #expect(!restarts(.keep, asking: asking)) }
  }

  @Test func countsFromZeroRestartsOnVCPU0AndByItsGuestAlone() {
    for msr in [MSR.systemTime, MSR.systemTimeOld] { #expect(restarts(.countsFromZero, msr)) }
    #expect(!restarts(.countsFromZero, vcpu: 1))
    #expect(!restarts(.countsFromZero, byHost: true))
  }

  @Test func unlessOldMSRSparesThatOne() {
    #expect(restarts(.countsFromZeroUnlessOldMSR))
    #expect(!restarts(.countsFromZeroUnlessOldMSR, MSR.systemTimeOld))
  }

  @Test func optInRestartsForThoseWhoAskAndTheirRecordIsWhereItShouldBe() {
    #expect(!restarts(.optIn))
    #expect(restarts(.optIn, asking: true))
    var vm = SimulatedVM(policy: .optIn)
    vm.write(0, 0x1001 | DiscussionGuest.optInRequest)
    #expect(vm.ram.page(0x1000).flags.contains(.countsFromZero))
    #expect(vm.clock.read(MSR.systemTime, 0, byHost: false) == 0x1003)
  }

  @Test func theEpochStaysWhatItWasAsLongAsItMayBe() {
    var epoch = WallClockEpoch()
    #expect(epoch.value(from: 100, to: 160) == 100)
    #expect(epoch.value(from: 80, to: 140) == 100)
    #expect(epoch.value(from: 130, to: 190) == 130)
    #expect(epoch.value(from: 10, to: 70) == 70)
    // System time was set: far off either way, and below 0 modulo 2^64.
    #expect(epoch.value(from: 1 << 40, to: 1 << 40 + 60) == 1 << 40)
    #expect((0 &- 30...UInt64.max).contains(epoch.value(from: 0 &- 30, to: 0 &- 1)))
  }

  @Test func aWallClockRecordIsRealTimeLessSystemTime() {
    var vm = SimulatedVM()
    vm.time.pass(123_456_790)
    vm.write(0, 0x1ffe, MSR.wallClock)
    let record = vm.ram.wall(0x1ffe)
    // System time was truncated.
    let epoch = vm.time.realtime() - 123_456_790
    #expect((epoch...epoch + 1).contains(record.epochNanoseconds))
    #expect(record.version == 0xa5a5_a5a8)
    #expect(vm.ram.read(0x200a, count: 1) == [0xa5])
    #expect(vm.clock.read(MSR.wallClockOld, 1, byHost: false) == 0x1ffe)
    let before = vm.ram.all
    vm.write(1, 0, MSR.wallClockOld)
    #expect(vm.ram.all == before)
  }
}
