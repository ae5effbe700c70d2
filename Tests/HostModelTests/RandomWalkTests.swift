import ABIChecker
import KVM
import PVClock
import Testing

@testable import HostModel
@testable import Scenarios

/// Random operations against the obvious model: the value set last and the nanoseconds since then.
@Suite struct RandomWalkTests {
  @Test(arguments: 0..<40 as Range<UInt64>)
  func everyRecordGivesTheOneTime(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed, scenario: "walk")
    let isTSC = seed % 4 != 3
    var vm = SimulatedVM(vcpus: 3, time: SimulatedTime(countsTSC: isTSC))
    var value: UInt64 = 0
    var then = vm.time.raw
    var records: [Int: UInt64] = [:]
    var usesOld = false
    for _ in 0..<400 {
      vm.time.pass(UInt64.random(in: 0...100_000, using: &random) * 2)
      let id = Int.random(in: 0..<3, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0:
        (value, then) = (random.next(), vm.time.raw)
        try vm.clock.set(ClockData(clock: value))
      case 1:
        records[id] = nil
        vm.write(id, 0)
        if id == 0 { usesOld = false }
      case 2: vm.enter(id)
      default:
        let address = UInt64(id) << 12 + UInt64.random(in: 0..<1000, using: &random) * 4
        let msr = Bool.random(using: &random) ? MSR.systemTime : MSR.systemTimeOld
        vm.write(id, address | 1, msr)
        records[id] = address
        if id == 0 { usesOld = msr == MSR.systemTimeOld }
      }
      // Every vCPU enters, so that whatever was asked for is served.
      vm.enter(0, 1, 2)
      let expected = value &+ (vm.time.raw - then)
      for address in records.values {
        // One truncation for each time that the line was taken up at another point.
        let error = Int64(bitPattern: vm.reading(address) &- expected)
        #expect((-200...1).contains(error), "seed \(seed)")
        let page = vm.ram.page(address)
        #expect(page.version % 2 == 0)
        // Where a record lay before, what was any byte of it may be bit 1 now: the guest's to clear.
        #expect(page.flags.subtracting(.guestStopped) == (isTSC && !usesOld ? .tscStable : []))
      }
      let error = Int64(bitPattern: vm.clock.get().clock &- expected)
      #expect((-200...1).contains(error))
    }
  }
}
