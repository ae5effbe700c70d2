import ABIChecker
import KVM
import PVClock
import Testing

@testable import HostModel

/// The kvmclock of one VM, on simulated clocks and memory.
@Suite struct VMClockTests {
  @Test func timeStartsAtZeroWithTheVMAndGoesOnOverWrites() {
    var vm = SimulatedVM()
    vm.time.pass(1000)
    for round in 1...5 as ClosedRange<UInt64> {
      vm.write(0, 0x1001)
      // The multiplier is truncated, and so is each conversion.
      #expect((round * 1000 - 2...round * 1000).contains(vm.reading(0x1000)))
      vm.time.pass(1000)
    }
  }

  @Test func aRecordIsThirtyTwoBytesUnderTheVersionProtocol() {
    var vm = SimulatedVM()
    let before = vm.ram.all
    vm.write(0, 0x1001)
    let changed = zip(before, vm.ram.all).enumerated().filter { $0.element.0 != $0.element.1 }
    #expect(changed.allSatisfy { (0x1000..<0x1020).contains($0.offset) })
    let page = vm.ram.page(0x1000)
    // 0xa5a5a5a5 is odd: the next even one after it.
    #expect(page.version == 0xa5a5_a5a8)
    #expect(page.flags == .tscStable && page.pad0 == 0 && page.pad == 0)
    vm.write(0, 0x1001)
    #expect(vm.ram.page(0x1000).version == 0xa5a5_a5aa)
  }

  @Test(arguments: [0, 0xffe0, 0x1000 - 4] as [UInt64])
  func everyAlignedAddressIsServedAlsoAcrossPages(address: UInt64) {
    var vm = SimulatedVM()
    vm.write(1, address | 1)
    #expect(vm.ram.page(address).version % 2 == 0)
  }

  @Test(arguments: [SimulatedRAM.size, SimulatedRAM.size - 16, 1 << 63, 0x8000] as [UInt64])
  func whereNothingMayBeWrittenNothingIsAndTheValueReadsBack(address: UInt64) {
    var vm = SimulatedVM(ram: SimulatedRAM(readOnly: 0x8000..<0x9000))
    let before = vm.ram.all
    vm.write(0, address | 1)
    #expect(vm.ram.all == before)
    #expect(vm.clock.read(MSR.systemTimeOld, 0, byHost: true) == address | 1)
  }

  @Test func aRecordThatWasMovedDisabledOrResetIsNotWrittenAgain() throws {
    let endings: [(inout SimulatedVM) -> Void] = [
      { $0.write(0, 0x2001) }, { $0.write(0, 0x1000) }, { $0.clock.reset(0) },
    ]
    for end in endings {
      var vm = SimulatedVM()
      vm.write(0, 0x1001)
      end(&vm)
      let record = vm.ram.page(0x1000)
      try vm.clock.set(ClockData(clock: 77))
      vm.enter(0, 1, 0)
      #expect(vm.ram.page(0x1000) == record)
    }
  }

  @Test(arguments: [0, 1, 1 << 63, .max, .max - 5] as [UInt64])
  func oneSettingIsEverybodysExactly(value: UInt64) throws {
    var vm = SimulatedVM()
    vm.write(0, 0x1001)
    vm.write(1, 0x2001)
    vm.time.pass(12_346)
    try vm.clock.set(ClockData(clock: value))
    vm.enter(0, 1)
    for address in [0x1000, 0x2000] as [UInt64] {
      #expect(vm.ram.page(address).systemTime == value)
      #expect(vm.ram.page(address).tscTimestamp == vm.time.tsc())
    }
    #expect(vm.clock.get().clock == value)
  }

  @Test func flagsThatNoKVMReturnsAreRefusedAndRealTimeOnlyMovesOn() throws {
    var vm = SimulatedVM()
    for bit in 0..<32 where ![1, 2, 3].contains(bit) {
      #expect(throws: KVMError.self) {
        try vm.clock.set(ClockData(clock: 9, flags: ClockFlags(rawValue: 1 << bit)))
      }
    }
    let now = vm.time.realtime()
    try vm.clock.set(ClockData(clock: 100, flags: .realtime, realtime: now - 40))
    #expect(vm.clock.get().clock == 140)
    try vm.clock.set(ClockData(clock: 100, flags: .realtime, realtime: now + 40))
    #expect(vm.clock.get().clock == 100)
  }

  @Test func theOldMSRTakesTheMasterClockAwayOnVCPU0AloneAndOnlyByTheGuest() {
    var vm = SimulatedVM()
    for (id, address) in [(0, 0x1001), (1, 0x2001)] as [(Int, UInt64)] { vm.write(id, address) }
    #expect(vm.clock.get().flags == [.tscStable, .realtime, .hostTSC])
    vm.write(1, 0x2001, MSR.systemTimeOld)
    _ = vm.clock.write(MSR.systemTimeOld, 0x1001, 0, byHost: true)
    vm.enter(0, 1)
    #expect(vm.clock.hasMasterClock)
    vm.write(0, 0x1001, MSR.systemTimeOld)
    vm.enter(1)
    #expect(vm.ram.page(0x1000).flags == [] && vm.ram.page(0x2000).flags == [])
    #expect(vm.clock.get().flags == [] && vm.clock.get().hostTSC == 0)
    vm.time.pass(5000)
    vm.write(0, 0x1001, MSR.systemTimeOld)
    #expect(vm.ram.page(0x1000).tscTimestamp == vm.time.tsc())
    vm.write(0, 0x1001)
    vm.enter(1)
    #expect(vm.ram.page(0x2000).flags == .tscStable)
  }

  @Test func offsetsThatDifferTakeTheMasterClockAwayAndTheClockStaysRight() {
    var vm = SimulatedVM()
    vm.write(0, 0x1001)
    vm.write(1, 0x2001)
    vm.time.pass(5000)
    vm.clock.enter(1, tscOffset: 1 << 60)
    vm.enter(0)
    #expect(!vm.clock.hasMasterClock)
    #expect(vm.reading(0x2000, offset: 1 << 60).distance(to: 5000).magnitude <= 1)
    #expect(vm.reading(0x1000).distance(to: 5000).magnitude <= 1)
    vm.clock.enter(0, tscOffset: 1 << 60)
    #expect(vm.clock.hasMasterClock)
  }

  @Test func aStopIsToldOnceAtTheNextEntryAndStaysUntilTheGuestClearsIt() throws {
    var vm = SimulatedVM()
    #expect(throws: KVMError.self) { try vm.clock.tellStopped(0) }
    vm.write(0, 0x1001)
    vm.write(1, 0x2001)
    try vm.clock.tellStopped(0)
    #expect(!vm.ram.page(0x1000).flags.contains(.guestStopped))
    vm.enter(0, 1)
    vm.write(0, 0x1001)
    #expect(vm.ram.page(0x1000).flags.contains(.guestStopped))
    #expect(!vm.ram.page(0x2000).flags.contains(.guestStopped))
    vm.ram.write([1], at: 0x1000 + 29)
    vm.write(0, 0x1001)
    #expect(!vm.ram.page(0x1000).flags.contains(.guestStopped))
  }

  @Test func aConfinedVCPUFaultsOnWhatItsCPUIDDoesNotOffer() {
    for features in [0, 1, 8, 9, 1 << 24] as [UInt32] {
      var vm = SimulatedVM(vcpus: 0)
      vm.clock.add(0, features: features, isConfined: true, tscOffset: 0)
      for (msr, bit) in [
        (MSR.systemTimeOld, 0), (MSR.wallClockOld, 0), (MSR.systemTime, 3), (MSR.wallClock, 3),
      ] as [(UInt32, UInt32)] {
        let isOffered = features >> bit & 1 == 1
        #expect(vm.clock.write(msr, 0x1001, 0, byHost: false) == isOffered)
        #expect((vm.clock.read(msr, 0, byHost: false) != nil) == isOffered)
        #expect(vm.clock.read(msr, 0, byHost: true) != nil)
      }
    }
  }

  @Test func withoutATSCClocksourceTimeFollowsCLOCK_MONOTONIC_RAW() throws {
    var vm = SimulatedVM(time: SimulatedTime(countsTSC: false))
    vm.time.pass(700)
    vm.write(0, 0x1001)
    #expect(vm.ram.page(0x1000).flags == [] && vm.ram.page(0x1000).systemTime == 700)
    try vm.clock.set(ClockData(clock: 5))
    vm.time.pass(20)
    #expect(vm.clock.get() == ClockData(clock: 25))
  }
}
