import Foundation
import GuestImages
import KVM
import Synchronization
import Testing

@testable import VMBuilder

extension Live {
  @Suite("Guests that misbehave")
  struct HostileGuests {
    /// A machine whose long-mode agent starts with other code.
    private func machine(running code: [UInt8], deadline: Int = 5000) throws -> Machine {
      let machine = try LiveHost.machine(Machine.Options(deadlineMilliseconds: deadline))
      try machine.boot(0, .agentLong)
      machine.memory.write(code, at: Int(GuestImage.agentLong.entry))
      return machine
    }

    private func failure(of code: [UInt8], deadline: Int = 5000) throws -> MachineError? {
      let machine = try machine(running: code, deadline: deadline)
      do {
        _ = try machine.ask(0, .nothing())
        return nil
      } catch {
        return error
      }
    }

    @Test("an endless loop is kicked out at its deadline, and where it was is known")
    func endlessLoop() throws {
      let began = Date()
      guard
        case .deadlinePassed(let vcpu, let milliseconds, let at)? = try failure(
          of: [0xeb, 0xfe], deadline: 100)
      else { throw Unexpected() }
      #expect(vcpu == 0)
      #expect(milliseconds >= 100)
      #expect(at?.instructionPointer == GuestImage.agentLong.entry)
      #expect(at?.codeSegment == 8)
      #expect(-began.timeIntervalSinceNow < 30)
    }

    @Test("the time that is reported passed, however long each look at the guest took")
    func elapsed() throws {
      let machine = try LiveHost.machine(
        Machine.Options(
          deadlineMilliseconds: 100,
          isCancelled: {
            usleep(100_000)
            return false
          }))
      machine.memory.write([0xeb, 0xfe], at: Int(GuestImage.agentLong.entry))
      let began = ContinuousClock.now
      let error = #expect(throws: MachineError.self) { try machine.ask(0, .nothing()) }
      guard case .deadlinePassed(_, let milliseconds, _)? = error else { throw Unexpected() }
      // Five waits, and what is asked after each.
      #expect(milliseconds >= 500)
      #expect(.milliseconds(milliseconds) <= ContinuousClock.now - began)
    }

    @Test("registers that do not come in time are not known, and the vCPU is of no more use")
    func registersTooLate() throws {
      var sabotage = Sabotage.run { () throws(KVMError) in .halt }
      sabotage.beforeRegisters = { usleep(2_500_000) }
      let machine = try LiveHost.machine(Machine.Options(sabotage: sabotage))
      let first = #expect(throws: MachineError.self) { try machine.ask(0, .nothing()) }
      guard case .guestStopped(_, .halt, let at)? = first else { throw Unexpected() }
      #expect(at == nil)
      #expect(first?.description.contains("where it was is not known") == true)
      try expectLost(machine)
    }

    @Test("a vCPU whose thread is lost refuses whatever it is asked")
    func lostThread() throws {
      let machine = try LiveHost.machine(Machine.Options(sabotage: .threadDies))
      let first = #expect(throws: MachineError.self) { try machine.ask(0, .nothing()) }
      guard case .threadLost(vcpu: 0)? = first else { throw Unexpected() }
      try expectLost(machine)
    }

    private func expectLost(_ machine: Machine) throws {
      func lost(_ error: (any Error)?) -> Bool {
        if case MachineError.threadLost(vcpu: 0)? = error as? MachineError { true } else { false }
      }
      #expect { try machine.ask(0, .nothing()) } throws: { lost($0) }
      #expect { try machine.boot(0, .agentLong) } throws: { lost($0) }
      #expect { try machine.withVCPU(0) { _ throws(KVMError) in 0 } } throws: { lost($0) }
    }

    @Test("HLT, a foreign port and memory that is not there end the run with the exit")
    func otherExits() throws {
      guard case .guestStopped(_, .halt, _)? = try failure(of: [0xf4]) else { throw Unexpected() }
      guard case .guestStopped(_, .out(port: 0x80, _, _, _), _)? = try failure(of: [0xe6, 0x80])
      else { throw Unexpected() }
      // mov %eax, 0x3f000000
      guard
        case .guestStopped(_, .mmioWrite(address: 0x3f00_0000, _, _), _)? = try failure(
          of: [0x89, 0x04, 0x25, 0x00, 0x00, 0x00, 0x3f])
      else { throw Unexpected() }
    }

    @Test("a triple fault ends the run as a shutdown")
    func tripleFault() throws {
      let machine = try LiveHost.machine()
      // No gate is present any more: the fault cannot be delivered, nor can the double fault.
      machine.memory.fill(0, at: Int(Layout.system(0)) + 0x200, count: 0x200)
      #expect {
        _ = try machine.ask(0, .invalidOpcode())
      } throws: { error in
        if case MachineError.guestStopped(_, .shutdown, _)? = error as? MachineError {
          true
        } else {
          false
        }
      }
    }

    @Test("a doorbell without a status, and a status that does not exist, are refused")
    func mailbox() throws {
      // out %al, $0x4b
      guard case .mailboxUnreadable? = try failure(of: [0xe6, 0x4b]) else { throw Unexpected() }
      // movl $99, 0x40(%rdi); out
      guard
        case .mailboxUnreadable(_, let reason)? = try failure(
          of: [0xc7, 0x47, 0x40, 99, 0, 0, 0, 0xe6, 0x4b])
      else { throw Unexpected() }
      #expect(reason.contains("99"))
      // The same with 5, STATUS_LEFT_L2: L1 must not seem to have answered for L2.
      guard
        case .mailboxUnreadable(_, let left)? = try failure(
          of: [0xc7, 0x47, 0x40, 5, 0, 0, 0, 0xe6, 0x4b])
      else { throw Unexpected() }
      #expect(left.contains("came back unasked"))
    }

    @Test("a guest that scribbles over its own mailbox harms nothing else")
    func scribble() throws {
      // lea 0x100(%rdi),%rsi; mov $0x380,%ecx; movl $-1,(%rsi); add $4,%rsi; dec %ecx; jnz; then done.
      let code: [UInt8] = [
        0x48, 0x8d, 0xb7, 0x00, 0x01, 0x00, 0x00, 0xb9, 0x80, 0x03, 0x00, 0x00,
        0xc7, 0x06, 0xff, 0xff, 0xff, 0xff, 0x48, 0x83, 0xc6, 0x04, 0xff, 0xc9, 0x75, 0xf2,
        0xc7, 0x47, 0x40, 0x01, 0, 0, 0, 0xe6, 0x4b,
      ]
      let machine = try machine(running: code)
      #expect(try machine.ask(0, .nothing()).value.status == .done)
      #expect(machine.loop(0).reads == UInt64.max)
    }

    @Test("cancelling ends a guest within a moment")
    func cancellation() throws {
      let flag = Flag()
      let machine = try LiveHost.machine(
        Machine.Options(isCancelled: { flag.isSet.load(ordering: .relaxed) }))
      machine.memory.write([0xeb, 0xfe], at: Int(GuestImage.agentLong.entry))
      Thread.detachNewThread {
        usleep(50_000)
        flag.isSet.store(true, ordering: .relaxed)
      }
      let began = Date()
      #expect {
        _ = try machine.ask(0, .nothing())
      } throws: { error in
        if case MachineError.cancelled? = error as? MachineError { true } else { false }
      }
      #expect(-began.timeIntervalSinceNow < 30)
    }

    @Test("threads are joined and descriptors closed, also of a guest that nobody waited for")
    func nothingLeft() async {
      // In a process of its own, for other tests open and close descriptors beside this one.
      await #expect(processExitsWith: .success) {
        func entries(_ folder: String) throws -> [String] {
          try FileManager.default.contentsOfDirectory(atPath: "/proc/self/\(folder)")
        }
        func vcpuThreads() throws -> Int {
          try entries("task").filter {
            let name = try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8)
            return name?.hasPrefix("guest-vcpu") ?? false
          }.count
        }
        _ = try LiveHost.machine()
        let descriptors = try entries("fd").count
        for _ in 0..<5 {
          let machine = try LiveHost.machine(Machine.Options(vcpus: [0, 1]))
          machine.memory.write([0xeb, 0xfe], at: Int(GuestImage.agentLong.entry))
          // A thread that did a job has its name.
          for vcpu in [0, 1] { _ = try machine.withVCPU(vcpu) { _ throws(KVMError) in } }
          try machine.begin(1, .nothing())
          #expect(try entries("fd").count > descriptors)
          #expect(try vcpuThreads() == 2)
        }
        #expect(try entries("fd").count == descriptors)
        // A joined thread may be on its way out of /proc for a moment.
        let end = Date() + 10
        while try vcpuThreads() > 0, Date() < end { usleep(1000) }
        #expect(try vcpuThreads() == 0)
      }
    }

    private final class Flag: Sendable {
      let isSet = Atomic(false)
    }

    private struct Unexpected: Error {}
  }
}
