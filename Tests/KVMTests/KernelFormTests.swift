import CKVM
import Glibc
import Testing

@testable import KVM

@Suite struct MSRFilterFormTests {
  @Test func `ranges and bitmaps reach the kernel's struct`() throws {
    let filter = MSRFilter(
      allowsByDefault: true,
      ranges: [
        .init(denying: 0x11...0x12),
        .init(flags: .write, base: 0x4b56_4d00, count: 9, bitmap: [0xFD, 0x01]),
      ])
    _ = try filter.withKernelFilter { form in
      let ranges = ckvm_msr_filter_ranges(&form)
      #expect(form.flags == UInt32(KVM_MSR_FILTER_DEFAULT_ALLOW))
      #expect(ranges[0].flags == UInt32(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE))
      #expect(ranges[0].base == 0x11)
      #expect(ranges[0].nmsrs == 2)
      #expect(ranges[0].bitmap?[0] == 0)
      #expect(ranges[1].flags == UInt32(KVM_MSR_FILTER_WRITE))
      #expect(ranges[1].base == 0x4b56_4d00)
      #expect(ranges[1].nmsrs == 9)
      #expect((0..<8).map { ranges[1].bitmap?[$0] } == [0xFD, 1, 0, 0, 0, 0, 0, 0])
      #expect(ranges[2].nmsrs == 0)
      return 0
    }
  }

  @Test func `denying by default sets the kernel's flag`() throws {
    _ = try MSRFilter(allowsByDefault: false).withKernelFilter { form in
      #expect(form.flags == UInt32(KVM_MSR_FILTER_DEFAULT_DENY))
      return 0
    }
  }

  @Test func `a bitmap that is too short is refused before the kernel reads it`() throws {
    let range = MSRFilter.Range(flags: .read, base: 0x10, count: 9, bitmap: [0xFF])
    let error = try #require(throws: KVMError.self) {
      _ = try MSRFilter(ranges: [range]).withKernelFilter { _ in 0 }
    }
    #expect(error.request == "KVM_X86_SET_MSR_FILTER")
    #expect(error.errno == EINVAL)
    #expect(error.remedy == "The range at 0x10 has 9 MSRs, but 1 bytes of bits.")
  }

  @Test func `a 17th range is refused`() throws {
    let ranges = (0..<17).map { MSRFilter.Range(denying: $0...$0) }
    let error = try #require(throws: KVMError.self) {
      _ = try MSRFilter(ranges: ranges).withKernelFilter { _ in 0 }
    }
    #expect(error.remedy == "KVM takes at most 16 ranges, not 17.")
  }
}

@Suite struct KernelFormTests {
  @Test func `flags have the kernel's bits`() {
    #expect(MemoryRegionFlags.logDirtyPages.rawValue == UInt32(KVM_MEM_LOG_DIRTY_PAGES))
    #expect(MemoryRegionFlags.readOnly.rawValue == UInt32(KVM_MEM_READONLY))
    #expect(ClockFlags.tscStable.rawValue == UInt32(KVM_CLOCK_TSC_STABLE))
    #expect(ClockFlags.realtime.rawValue == UInt32(KVM_CLOCK_REALTIME))
    #expect(ClockFlags.hostTSC.rawValue == UInt32(KVM_CLOCK_HOST_TSC))
    #expect(MSRFilter.Access.read.rawValue == UInt32(KVM_MSR_FILTER_READ))
    #expect(MSRFilter.Access.write.rawValue == UInt32(KVM_MSR_FILTER_WRITE))
    #expect(MSRExitReasons.invalid.rawValue == UInt32(KVM_MSR_EXIT_REASON_INVAL))
    #expect(MSRExitReasons.unknown.rawValue == UInt32(KVM_MSR_EXIT_REASON_UNKNOWN))
    #expect(MSRExitReasons.filter.rawValue == UInt32(KVM_MSR_EXIT_REASON_FILTER))
    #expect(GuestDebugControl.enable.rawValue == UInt32(KVM_GUESTDBG_ENABLE))
    #expect(GuestDebugControl.singleStep.rawValue == UInt32(KVM_GUESTDBG_SINGLESTEP))
    #expect(GuestDebugControl.softwareBreakpoints.rawValue == UInt32(KVM_GUESTDBG_USE_SW_BP))
    #expect(GuestDebugControl.hardwareBreakpoints.rawValue == UInt32(KVM_GUESTDBG_USE_HW_BP))
    #expect(CPUIDEntry.significantIndex == UInt32(KVM_CPUID_FLAG_SIGNIFCANT_INDEX))
  }

  @Test func `states have the kernel's numbers`() {
    #expect(MPState.runnable.rawValue == UInt32(KVM_MP_STATE_RUNNABLE))
    #expect(MPState.uninitialized.rawValue == UInt32(KVM_MP_STATE_UNINITIALIZED))
    #expect(MPState.initReceived.rawValue == UInt32(KVM_MP_STATE_INIT_RECEIVED))
    #expect(MPState.halted.rawValue == UInt32(KVM_MP_STATE_HALTED))
    #expect(MPState.sipiReceived.rawValue == UInt32(KVM_MP_STATE_SIPI_RECEIVED))
  }

  @Test func `clock data goes to the kernel's struct and back`() {
    let data = ClockData(clock: 1, flags: [.realtime, .hostTSC], realtime: 2, hostTSC: 3)
    #expect(data.kernelData.clock == 1)
    #expect(data.kernelData.flags == 12)
    #expect(data.kernelData.realtime == 2)
    #expect(data.kernelData.host_tsc == 3)
    #expect(ClockData(data.kernelData) == data)
  }

  @Test func `a CPUID entry goes to the kernel's struct and back`() {
    let entry = CPUIDEntry(function: 1, index: 2, flags: 3, eax: 4, ebx: 5, ecx: 6, edx: 7)
    let form = entry.kernelEntry
    #expect([form.function, form.index, form.flags] == [1, 2, 3])
    #expect([form.eax, form.ebx, form.ecx, form.edx] == [4, 5, 6, 7])
    #expect(CPUIDEntry(form) == entry)
  }

  @Test func `a signal set has bit n - 1 for signal n`() {
    let mask = FlexibleArray(signals: [1, 10, 64])
    #expect(mask.header.pointee.len == 8)
    #expect(mask.prefix(8) == [1, 2, 0, 0, 0, 0, 0, 0x80])
  }

  @Test func `a count that is larger than the array ends at the array`() {
    #expect(FlexibleArray(indices: 3).prefix(.max).count == 3)
  }

  @Test func `MSR entries follow the header`() {
    let array = FlexibleArray(msrs: [(index: 0x10, value: 7), (index: 0x11, value: 8)])
    #expect(array.header.pointee.nmsrs == 2)
    #expect(array.elements[1].index == 0x11)
    #expect(array.elements[1].data == 8)
    let distance = UnsafeRawPointer(array.elements.baseAddress!) - UnsafeRawPointer(array.header)
    #expect(distance == 8)
  }

  @Test func `an APIC register is four little-endian bytes`() {
    var apic = LocalAPIC()
    apic[0x20] = 0x0102_0304
    #expect(Array(apic.bytes[0x20..<0x24]) == [4, 3, 2, 1])
    #expect(apic[0x20] == 0x0102_0304)
    #expect(LocalAPIC(apic.kernelState) == apic)
  }

  @Test func `arguments of a capability are padded with zeros`() {
    let request = kvm_enable_cap(.userSpaceMSR, flags: 1, arguments: [7, 8])
    #expect(request.cap == 188)
    #expect(request.flags == 1)
    #expect(request.args == (7, 8, 0, 0))
  }
}

@Suite struct SharedMemoryShimTests {
  @Test func `the time-stamp counter moves on between two readings`() {
    let first = ckvm_rdtsc()
    #expect(ckvm_rdtsc() > first)
  }

  @Test func `words go through the shims unchanged`() {
    var memory: [UInt32] = [0, 0, 0, 0]
    var copy: [UInt32] = [0, 0, 0, 0]
    ckvm_store_words(&memory, [1, 2, 3, 4], 3)
    #expect(memory == [1, 2, 3, 0])
    ckvm_load_words(memory, &copy, 2)
    #expect(copy == [1, 2, 0, 0])
    ckvm_store32(&memory, 9)
    #expect(ckvm_load32(memory) == 9)
    ckvm_store8_release(&memory, 1)
    #expect(memory[0] == 1)
  }

  @Test func `signals can be sent to one thread only`() {
    #expect(ckvm_tgkill(getpid(), ckvm_gettid(), 0) == 0)
    #expect(ckvm_tgkill(getpid(), -1, 0) == -EINVAL)
  }
}
