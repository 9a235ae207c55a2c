/** The clock of a program under test: see ../c/pace.h. */
final class Pace {
    static final int KIB = 1024;
    static final int MIB = 1024 * KIB;

    private static final double SCALE = scale();
    private static final long BEGUN = System.nanoTime();

    private Pace() {}

    private static double scale() {
        String text = System.getenv("LEAKS_SCALE");
        return text == null ? 1 : Double.parseDouble(text);
    }

    /** Sleeps a tick, and gives seconds of the program's time since the start. */
    static double tick() throws InterruptedException {
        Thread.sleep((long) Math.min(50 * SCALE, 500));
        return (System.nanoTime() - BEGUN) * 1e-9 / SCALE;
    }
}
