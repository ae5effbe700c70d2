@testable import ABIChecker

extension Script {
  static func guestStopped(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.tellStopped(id) }
    for id in [0, 1] { host.register(id) }
    for id in [0, 1] {
      for each in [0, 1] { host.look(each) }
      host.tellStopped(id)
      host.look(id)
      host.setClock(77_777_777_777)
      host.settleAndLook()
      updateOften(&host, id)
      host.clearStopped(id)
      host.look(id)
      updateOften(&host, id)
      host.tellStopped(id)
      host.enter(id)
      host.look(id)
      host.register(id, at: UInt64(0x30000 + id * 0x1000))
      updateOften(&host, id)
      host.run(id, .write(MSR.systemTime, 0x30000))
      host.tellStopped(id)
      host.register(id, at: UInt64(0x30000 + id * 0x1000))
      host.hostWriteMSR(id, MSR.systemTime, 0)
      host.tellStopped(id)
      host.register(id, at: UInt64(0x30000 + id * 0x1000))
    }
    tellWithoutMasterClock(&host)
    leavePending(&host)
    host.look(1)
    host.clearStopped(1)
    host.look(1)
    host.tellStopped(1)
    host.hostWriteMSR(1, MSR.systemTime, host.vcpus[1]!.msr)
    host.enter(1)
    host.look(1)
    host.replug(0, how: .initialized(by: 1))
    host.tellStopped(0)
  }

  private static func tellWithoutMasterClock(_ host: inout HistoryBuilder) {
    host.register(0, msr: MSR.systemTimeOld)
    for id in [0, 1] {
      host.clearStopped(id)
      host.look(id)
      host.tellStopped(id)
      host.look(id)
      for isCleared in [false, true] {
        if isCleared { host.clearStopped(id) }
        for _ in 0..<2 {
          host.setClock(77_777_777_777)
          host.settleAndLook()
        }
      }
    }
    host.register(0)
    host.settleAndLook()
  }

  static func stoppedUnreachable(_ host: inout HistoryBuilder) {
    host.machineInMemory()
    for id in [0, 1] {
      let page = UInt64(0x1000_0000 + id << 26)
      var memory = 1 + 2 * id
      host.setSlot(1, at: page, memory)
      host.register(id, at: page)
      for isToldBefore in [true, false] {
        if isToldBefore { host.tellStopped(id) }
        host.removeSlot(1)
        if !isToldBefore {
          host.tellStopped(id)
          memory += 1
        }
        host.enter(id)
        host.setSlot(1, at: page, memory)
        host.setClock(3_600_000_000_000)
        host.enter(id)
        host.look(id)
        host.clearStopped(id)
      }
      for access in [HostAccess.none, .read] {
        for isToldBefore in [true, false] {
          if isToldBefore { host.tellStopped(id) }
          host.protect(memory, access)
          if !isToldBefore { host.tellStopped(id) }
          for _ in 0..<2 { host.enter(id) }
          host.protect(memory, .write)
          host.setClock(3_600_000_000_000)
          host.enter(id)
          host.look(id)
          host.clearStopped(id)
        }
      }
      host.run(id, .write(MSR.systemTime, 0))
      host.removeSlot(1)
    }
  }

  static func updateOften(_ host: inout HistoryBuilder, _ id: Int) {
    for round in 0..<6 as Range<UInt64> {
      host.setClock(round << 40)
      host.enter(id)
      host.look(id)
      host.register(id, at: host.vcpus[id]!.address)
    }
  }

  static func leavePending(_ host: inout HistoryBuilder) {
    host.tellStopped(0)
    host.hostWriteMSR(0, MSR.systemTime, 0)
    host.enter(0)
    host.register(0, at: 0x50000)
  }

  static let origin: UInt64 = 0 &- 6_999_000_000_000

  static func tscMatching(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.createVCPU(2)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.settleAndLook()
    for (ids, offset) in [([0, 1], origin &+ 1_000_000), ([1, 0], origin)] {
      for id in ids.flatMap({ [$0, $0] }) {
        host.setTSCOffset(id, offset)
        host.getClock()
        host.settleAndLook()
      }
    }
  }

  static func hotplug(_ host: inout HistoryBuilder) {
    host.machine(0)
    host.register(0)
    host.setClock(3_600_000_000_000)
    for late in [1, 2] {
      host.settleAndLook()
      for id in host.vcpus.keys.sorted() { host.read(id) }
      host.wait(milliseconds: 5)
      host.createVCPU(late)
      host.register(late)
      for id in host.vcpus.keys.sorted() { host.read(id) }
      host.settleAndLook()
    }
  }

  /// Waits at which 43 ppb make no difference: an honest host's pairs that take longer are a known deviation.
  static func newPair(_ host: inout HistoryBuilder, milliseconds: UInt64 = 10) {
    host.machine(0)
    host.register(0)
    host.enter(0)
    host.look(0)
    for _ in 0..<3 {
      host.wait(milliseconds: milliseconds)
      for msr in [MSR.systemTimeOld, MSR.systemTime] { host.register(0, msr: msr) }
      host.look(0)
    }
  }
}
