import java.util.HashMap;
import java.util.Map;
import java.util.Random;

/** A cache of 4,000 entries of 4 KiB, computed when first asked for: it fills with a time constant of 6 s and stays full. */
final class CacheFill {
    private static final Map<Integer, byte[]> CACHE = new HashMap<>();

    public static void main(String[] args) throws InterruptedException {
        Random random = new Random(1);
        long asked = 0;
        while (true) {
            double t = Pace.tick();
            for (; asked < 670 * t; asked++) {
                CACHE.computeIfAbsent(random.nextInt(4000), key -> new byte[4 * Pace.KIB - 16]);
            }
        }
    }
}
