@testable import ABIChecker

extension Script {
  static func slots(_ host: inout HistoryBuilder) {
    host.machineInMemory()
    for (slot, page): (Int, UInt64) in [(1, 0x1000_0000), (2, 0x1_0000_0000)] {
      host.setSlot(slot, at: page, slot)
      for offset: UInt64 in [0, 0x2344, 0x3fe0] {
        host.register(0, at: page + offset)
        host.update()
        host.look(0)
      }
    }
    for id in [0, 1] {
      exchangeMemory(&host, id, from: 3 + id * 10)
      lateMemory(&host, id, 30 + id)
      readOnlySlot(&host, id, 40 + id)
      host.register(id, at: UInt64(0x10000 + id * 0x1000))
    }
  }

  static func exchangeMemory(_ host: inout HistoryBuilder, _ id: Int, from memory: Int) {
    host.setSlot(3, at: 0x2000_0000, memory)
    host.register(id, at: 0x2000_0100)
    host.update()
    for (number, hasUpdateBetween) in [(memory + 1, true), (memory + 2, false)] {
      host.removeSlot(3)
      if hasUpdateBetween { host.update() }
      host.setSlot(3, at: 0x2000_0000, number)
      host.update()
      host.read(id)
    }
    for shown in [memory + 3, memory + 4] {
      host.remap(memory + 2, shows: shown)
      host.update()
      host.read(id)
    }
    host.run(id, .write(MSR.systemTime, 0))
    host.removeSlot(3)
  }

  static func lateMemory(_ host: inout HistoryBuilder, _ id: Int, _ memory: Int) {
    host.run(id, .write(MSR.systemTime, 0x2800_0001))
    host.update()
    host.setSlot(4, at: 0x2800_0000, memory)
    host.update()
  }

  static func readOnlySlot(_ host: inout HistoryBuilder, _ id: Int, _ memory: Int) {
    host.setSlot(5, at: 0x3000_0000, memory, flags: 2)
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      host.compare()
      host.run(id, .write(msr, 0x3000_0041))
      host.update()
      host.run(id, .write(MSR.systemTime, 0))
    }
    host.removeSlot(5)
    host.removeSlot(4)
  }

  static func crossPage(_ host: inout HistoryBuilder) {
    host.machineInMemory(registering: [1])
    for record: UInt64 in [0x22ff0, 0x22fe4] {
      host.compare()
      host.run(0, .write(MSR.systemTime, record | 1))
      host.update()
      host.run(0, .write(MSR.systemTime, 0))
    }
    for record: UInt64 in [0x22ff0, 0x22ffc, 0x22fe4] {
      host.register(0)
      host.update()
      host.run(0, .write(MSR.systemTime, record | 1))
      host.update()
    }
  }

  static func dirtyLog(_ host: inout HistoryBuilder) {
    for isManual in [false, true] { logSlots(&host, isManual) }
  }

  private static func logSlots(_ host: inout HistoryBuilder, _ isManual: Bool) {
    host.memory = SimulatedMemory()
    host.machineInMemory()
    for (slot, isLate) in [(1, false), (2, true)] {
      let page = UInt64(slot) << 28
      if isLate { host.setSlot(slot, at: page, slot) }
      if isLate { host.register(0, at: page + 32) }
      host.setSlot(slot, at: page, slot, flags: 1)
      if !isLate { host.register(0, at: page + 32) }
      for number: UInt64 in 0..<3 {
        host.dirtyLog(slot, isManual: isManual)
        host.update()
        host.register(0, at: page + number << 12 + 64)
        host.compare()
        host.dirtyLog(slot, isManual: isManual)
        host.compare()
        host.tellStopped(0)
        host.enter(0)
        host.compare()
        host.dirtyLog(slot, isManual: isManual)
        host.compare()
        let msr = number % 2 == 0 ? MSR.wallClock : MSR.wallClockOld
        host.requestWall(0, at: page + number << 12 + 2048, msr: msr)
        host.compare()
      }
      host.dirtyLog(slot, isManual: isManual)
    }
  }

  static func dirtyRing(_ host: inout HistoryBuilder) {
    host.machineInMemory()
    for id in [0, 1] {
      host.setSlot(id + 1, at: UInt64(id + 1) << 28, id + 1, flags: 1)
      host.register(id, at: UInt64(id + 1) << 28 + 32)
    }
    host.dirtyRings()
    for round: UInt64 in 0..<2 {
      host.update()
      host.dirtyRings()
      for id in [0, 1] {
        let page = UInt64(id + 1) << 28
        let updates: [(inout HistoryBuilder) -> Void] = [
          { $0.register(id, at: page + 96 + round * 4096) },
          { $0.tellStopped(id) },
          { $0.requestWall(id, at: page + 0x3800) },
          { $0.requestWall(id, at: page + 0x3800, msr: MSR.wallClockOld) },
        ]
        for update in updates {
          host.compare()
          update(&host)
          host.enter(id)
          host.compare()
          host.dirtyRings()
        }
      }
    }
  }
}
